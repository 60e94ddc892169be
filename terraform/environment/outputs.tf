output "buckets" {
  description = "Names of the buckets: store, retrievals, logs."
  value       = { for name, bucket in google_storage_bucket.all : name => bucket.name }
}

output "database" {
  description = "What the proxy connects to."
  value       = google_sql_database_instance.stilt.connection_name
}
