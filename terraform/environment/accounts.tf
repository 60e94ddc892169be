# One account for each role (helm-values/base.yaml), and what it may do with which bucket.

locals {
  roles = {
    launcher = { logs = "roles/storage.objectUser" }
    code     = { store = "roles/storage.objectUser", retrievals = "roles/storage.objectViewer", logs = "roles/storage.objectUser" }
    run      = { store = "roles/storage.objectUser", retrievals = "roles/storage.objectViewer", logs = "roles/storage.objectUser" }
    pack     = { store = "roles/storage.objectUser", retrievals = "roles/storage.objectViewer", logs = "roles/storage.objectUser" }
    postgres = {}
  }
  grants = merge([
    for role, buckets in local.roles : { for bucket, right in buckets : "${role}-${bucket}" => { role = role, bucket = bucket, right = right } }
  ]...)
}

resource "google_service_account" "all" {
  for_each     = local.roles
  account_id   = "stilt-${var.environment}-${each.key}"
  display_name = "stilt-assets, ${var.environment}: ${each.key}"
}

resource "google_storage_bucket_iam_member" "all" {
  for_each = local.grants
  bucket   = google_storage_bucket.all[each.value.bucket].name
  role     = each.value.right
  member   = google_service_account.all[each.value.role].member
}

# Workload identity: the Kubernetes account of that name, in this environment's namespace alone, is this account.
resource "google_service_account_iam_member" "kubernetes" {
  for_each           = local.roles
  service_account_id = google_service_account.all[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[stilt-${var.environment}/${each.key}]"
}

# Only the proxy may connect to databases, and only to this environment's.
resource "google_project_iam_member" "proxy" {
  for_each = toset(["roles/cloudsql.client", "roles/cloudsql.instanceUser"])
  project  = var.project
  role     = each.value
  member   = google_service_account.all["postgres"].member
  condition {
    title      = "stilt-${var.environment}"
    expression = "resource.name == 'projects/${var.project}/instances/stilt-${var.environment}' && resource.service == 'sqladmin.googleapis.com'"
  }
}
