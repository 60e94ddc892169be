resource "google_compute_network" "stilt" {
  name                    = "stilt"
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "nodes" {
  name                     = "stilt-nodes"
  network                  = google_compute_network.stilt.id
  ip_cidr_range            = "10.10.0.0/20"
  private_ip_google_access = true # buckets are reached without leaving Google's network

  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = "10.20.0.0/14"
  }
  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = "10.30.0.0/20"
  }

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
  }
}

# Nodes have no address of their own: archives of meteorology outside Google are reached through this.
resource "google_compute_router" "out" {
  name    = "stilt-out"
  network = google_compute_network.stilt.id
}

resource "google_compute_router_nat" "out" {
  name                               = "stilt-out"
  router                             = google_compute_router.out.name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"
}

# Where databases get their private addresses from.
resource "google_compute_global_address" "databases" {
  name          = "stilt-databases"
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  address       = "10.40.0.0"
  prefix_length = 20
  network       = google_compute_network.stilt.id
}

resource "google_service_networking_connection" "databases" {
  network                 = google_compute_network.stilt.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.databases.name]
}
