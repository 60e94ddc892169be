# Results, retrievals that arrive, logs of runs. The names are those of helm-values/gke.yaml and dev.yaml, prod.yaml.

locals {
  prod = var.environment == "prod"
  buckets = {
    store      = { versions = local.prod, colder = true, days = 0 }
    retrievals = { versions = false, colder = true, days = 0 }
    logs       = { versions = false, colder = false, days = var.keep.logs }
  }
}

resource "google_storage_bucket" "all" {
  for_each = local.buckets
  name     = "${var.project}-stilt-${var.environment}-${each.key}"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = each.value.versions
  }
  soft_delete_policy {
    retention_duration_seconds = each.value.days > 0 ? 0 : 604800 # a week to take a deletion back; never of logs
  }

  lifecycle_rule {
    condition {
      age = var.keep.uploads
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
  dynamic "lifecycle_rule" {
    for_each = each.value.colder ? [1] : []
    content {
      condition {
        age                   = var.keep.colder
        matches_storage_class = ["STANDARD"]
      }
      action {
        type          = "SetStorageClass"
        storage_class = "NEARLINE"
      }
    }
  }
  dynamic "lifecycle_rule" {
    for_each = each.value.days > 0 ? [1] : []
    content {
      condition {
        age = each.value.days
      }
      action {
        type = "Delete"
      }
    }
  }
  dynamic "lifecycle_rule" {
    for_each = each.value.versions ? [1] : []
    content {
      condition {
        num_newer_versions = 1
        with_state         = "ARCHIVED"
        age                = 30
      }
      action {
        type = "Delete"
      }
    }
  }
  labels = { app = "stilt-assets", environment = var.environment }
}
