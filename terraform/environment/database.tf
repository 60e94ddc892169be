# Runs and events of Dagster: a private address, no password, an encrypted connection.

resource "google_sql_database_instance" "stilt" {
  name                = "stilt-${var.environment}"
  database_version    = "POSTGRES_17"
  deletion_protection = local.prod && var.protected

  settings {
    tier                        = var.database.tier
    edition                     = "ENTERPRISE"
    availability_type           = local.prod ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.database.disk
    disk_autoresize             = true
    deletion_protection_enabled = local.prod && var.protected

    ip_configuration {
      ipv4_enabled    = false # no public address
      private_network = var.network
      ssl_mode        = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED" # which only proxies have
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

    database_flags {
      name  = "cloudsql.iam_authentication"
      value = "on"
    }
    database_flags {
      name  = "max_connections"
      value = tostring(var.database.connections)
    }
    database_flags {
      name  = "log_min_duration_statement"
      value = "2000" # ms
    }
    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }
    database_flags {
      name  = "log_connections"
      value = "on"
    }
    database_flags {
      name  = "log_disconnections"
      value = "on"
    }
    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }
    database_flags {
      name  = "log_temp_files"
      value = "0"
    }
    # Event logs are only ever added to and pruned once a day: cleaned when a fiftieth is dead, not a fifth.
    database_flags {
      name  = "autovacuum_vacuum_scale_factor"
      value = "0.02"
    }
    user_labels = { app = "stilt-assets", environment = var.environment }
  }
}

resource "google_sql_database" "dagster" {
  name            = "dagster"
  instance        = google_sql_database_instance.stilt.name
  deletion_policy = "ABANDON" # it goes with its instance; Postgres lets no owner of tables go before
}

# The proxy's account is the user: what it signs in with lasts an hour and is renewed by itself.
resource "google_sql_user" "proxy" {
  name            = trimsuffix(google_service_account.all["postgres"].email, ".gserviceaccount.com")
  instance        = google_sql_database_instance.stilt.name
  type            = "CLOUD_IAM_SERVICE_ACCOUNT"
  database_roles  = ["cloudsqlsuperuser"] # owns the database, and so may make Dagster's tables
  deletion_policy = "ABANDON"
}
