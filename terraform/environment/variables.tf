variable "project" {
  description = "Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of the cluster."
  type        = string
}

variable "environment" {
  description = "dev or prod: part of every name."
  type        = string
  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "Say dev or prod."
  }
}

variable "network" {
  description = "The output `network` of ../cluster."
  type        = string
}

variable "database" {
  description = "Machine of the database, GB of its disk, and how many connections it takes (dagster_home/kubernetes/dagster.yaml)."
  type        = object({ tier = string, disk = number, connections = number })
  default     = { tier = "db-custom-2-7680", disk = 50, connections = 400 }
}

variable "protected" {
  description = "Whether prod's database refuses to be removed; docs/deploy.md."
  type        = bool
  default     = true
}

variable "keep" {
  description = "Days after which logs, and pieces of uploads that nobody ended, are deleted; after which results are colder."
  type        = object({ logs = number, uploads = number, colder = number })
  default     = { logs = 90, uploads = 7, colder = 90 }
}
