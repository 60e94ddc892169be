terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.18" # the first with database_roles of a database's user
    }
  }
  backend "gcs" {} # a prefix for each environment: dev and prod have states of their own
}

provider "google" {
  project = var.project
  region  = var.region
}
