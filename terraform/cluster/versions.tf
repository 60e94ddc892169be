terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.18" # that of ../environment
    }
  }
  backend "gcs" {} # bucket and prefix come from -backend-config: docs/deploy.md
}

provider "google" {
  project = var.project
  region  = var.region
}
