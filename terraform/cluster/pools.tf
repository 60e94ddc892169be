# Labels and taints are what the executor's variables STILT_ASSETS_POOL_… name (helm-values/gke.yaml).

locals {
  pools = {
    system      = { size = var.system, spot = false, least = 1 }
    packs       = { size = var.packs, spot = true, least = 0 }
    meteorology = { size = var.meteorology, spot = false, least = 0 }
  }
}

resource "google_container_node_pool" "all" {
  for_each = local.pools
  name     = each.key
  cluster  = google_container_cluster.stilt.id

  initial_node_count = each.value.least
  autoscaling {
    total_min_node_count = each.value.least
    total_max_node_count = each.value.size.most
    location_policy      = each.value.spot ? "ANY" : "BALANCED" # spot: wherever there are machines
  }
  management {
    auto_repair  = true
    auto_upgrade = true
  }
  upgrade_settings {
    max_surge       = 1
    max_unavailable = 0
  }

  node_config {
    machine_type    = each.value.size.machine
    spot            = each.value.spot
    disk_type       = "pd-ssd"
    disk_size_gb    = var.disk
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.nodes.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"] # what it may do is said by roles
    labels          = { "stilt-assets/pool" = each.key }
    resource_labels = { app = "stilt-assets", pool = each.key }

    dynamic "taint" {
      for_each = each.key == "system" ? [] : [each.key]
      content {
        key    = "stilt-assets/pool"
        value  = taint.value
        effect = "NO_SCHEDULE"
      }
    }
    metadata = { disable-legacy-endpoints = "true" }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
    gcfs_config {
      enabled = true # images are streamed: a new node starts pods before it has all of it
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count] # a change would make the pool anew
  }
}
