# One cluster for all environments, with pools of our own. What an environment has of its own is in ../environment.

module "quota" {
  source = "../quota"
  pools  = [for pool in local.pools : merge(pool.size, { spot = pool.spot })]
  disk   = var.disk
  limits = var.limits
  used   = var.used
}

# What nodes may do: pull images, write logs and metrics. Pods have accounts of their own.
resource "google_service_account" "nodes" {
  account_id   = "stilt-nodes"
  display_name = "Nodes of the cluster stilt"
}

resource "google_project_iam_member" "nodes" {
  for_each = toset([
    "roles/container.defaultNodeServiceAccount",
    "roles/artifactregistry.reader",
    "roles/serviceusage.serviceUsageConsumer", # streams images
  ])
  project = var.project
  role    = each.value
  member  = google_service_account.nodes.member
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "stilt"
  location      = var.region
  format        = "DOCKER"
  docker_config {
    immutable_tags = true # a commit's image is one image for ever
  }
}

resource "google_container_cluster" "stilt" {
  name     = "stilt"
  location = var.zone

  network         = google_compute_network.stilt.id
  subnetwork      = google_compute_subnetwork.nodes.id
  networking_mode = "VPC_NATIVE"
  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  # No pool that Google makes, neither now nor by auto-provisioning: those below are all there are.
  remove_default_node_pool = true
  initial_node_count       = 1
  node_config { # of the pool that is removed at once
    service_account = google_service_account.nodes.email
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
    shielded_instance_config {
      enable_secure_boot = true
    }
  }
  cluster_autoscaling {
    enabled             = false
    autoscaling_profile = "OPTIMIZE_UTILIZATION" # idle nodes go soon
  }

  datapath_provider           = "ADVANCED_DATAPATH" # keeps network policies
  enable_shielded_nodes       = true
  enable_intranode_visibility = true
  deletion_protection         = var.protected

  release_channel {
    channel = "REGULAR"
  }
  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }
  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = false
    master_ipv4_cidr_block  = "10.50.0.0/28"
  }
  master_authorized_networks_config {
    dynamic "cidr_blocks" {
      for_each = var.authorized
      content {
        display_name = cidr_blocks.key
        cidr_block   = cidr_blocks.value
      }
    }
  }
  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }
  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "WORKLOADS"]
  }
  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS"]
    managed_prometheus {
      enabled = true
    }
  }
  maintenance_policy {
    daily_maintenance_window {
      start_time = "02:00" # UTC
    }
  }
  resource_labels = { app = "stilt-assets" }

  lifecycle {
    ignore_changes = [node_config]
    precondition {
      condition     = length(module.quota.short) == 0
      error_message = module.quota.line
    }
  }
}
