# Runs and events of Dagster: a private address, no password, an encrypted connection.

resource "google_sql_database_instance" "stilt" {
  name                = "stilt-${var.environment}"
  database_version    = "POSTGRES_16"
  deletion_protection = local.prod

  settings {
    tier                        = var.database.tier
    edition                     = "ENTERPRISE"
    availability_type           = local.prod ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.database.disk
    disk_autoresize             = true
    deletion_protection_enabled = local.prod

    ip_configuration {
      ipv4_enabled    = false # no public address
      private_network = var.network
      ssl_mode        = "ENCRYPTED_ONLY"
    }
    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
      start_time                     = "01:00" # UTC
      backup_retention_settings {
        retained_backups = local.prod ? 30 : 7
      }
    }
    maintenance_window {
      day          = 7
      hour         = 2
      update_track = local.prod ? "stable" : "canary" # dev first
    }
    insights_config {
      query_insights_enabled = true
    }

    dynamic "database_flags" {
      for_each = {
        "cloudsql.iam_authentication" = "on"
        max_connections               = tostring(var.database.connections)
        log_min_duration_statement    = "2000" # ms
        log_checkpoints               = "on"
        log_connections               = "on"
        log_disconnections            = "on"
        log_lock_waits                = "on"
        log_temp_files                = "0"
        # Event logs are only ever added to and pruned once a day: cleaned when a fiftieth is dead, not a fifth.
        autovacuum_vacuum_scale_factor = "0.02"
      }
      content {
        name  = database_flags.key
        value = database_flags.value
      }
    }
    user_labels = { app = "stilt-assets", environment = var.environment }
  }
}

resource "google_sql_database" "dagster" {
  name     = "dagster"
  instance = google_sql_database_instance.stilt.name
}

# The proxy's account is the user: what it signs in with lasts an hour and is renewed by itself.
resource "google_sql_user" "proxy" {
  name           = trimsuffix(google_service_account.all["postgres"].email, ".gserviceaccount.com")
  instance       = google_sql_database_instance.stilt.name
  type           = "CLOUD_IAM_SERVICE_ACCOUNT"
  database_roles = ["cloudsqlsuperuser"] # owns the database, and so may make Dagster's tables
}
