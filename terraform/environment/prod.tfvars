environment = "prod"
database    = { tier = "db-custom-4-15360", disk = 100, connections = 500 }
keep        = { logs = 90, uploads = 7, colder = 90 }
