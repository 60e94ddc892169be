environment = "dev"
database    = { tier = "db-custom-1-3840", disk = 20, connections = 150 }
keep        = { logs = 14, uploads = 1, colder = 30 }
