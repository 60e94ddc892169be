output "network" {
  description = "For ../environment: the network that databases get a private address of."
  value       = google_compute_network.stilt.id
}

output "registry" {
  description = "For make push_images: REGISTRY."
  value       = google_artifact_registry_repository.images.registry_uri
}

output "credentials" {
  description = "Lets kubectl reach the cluster."
  value       = "gcloud container clusters get-credentials ${google_container_cluster.stilt.name} --project ${var.project} --zone ${var.zone}"
}
