variable "project" {
  description = "Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of cluster, buckets and databases; near the archive of meteorology and the people."
  type        = string
}

variable "zone" {
  description = "Zone of all nodes: one, so that a scene's pods share a network and pay nothing for it."
  type        = string
}

variable "authorized" {
  description = "Networks (CIDR) that may reach the cluster's API, by a name for each. Never 0.0.0.0/0."
  type        = map(string)
  validation {
    condition     = length(var.authorized) > 0 && alltrue([for cidr in values(var.authorized) : tonumber(split("/", cidr)[1]) >= 8])
    error_message = "Name at least one network, none larger than a /8."
  }
}

variable "system" {
  description = "On demand: Dagster itself, runs that wait for their steps, proxies of databases."
  type        = object({ machine = string, cores = number, most = number })
  default     = { machine = "e2-standard-4", cores = 4, most = 4 }
}

variable "packs" {
  description = "Spot: packs of pixels. 4 cores a pod, 12 GiB; a node is gone with half a minute's notice."
  type        = object({ machine = string, cores = number, most = number })
  default     = { machine = "n2d-standard-16", cores = 16, most = 50 }
}

variable "meteorology" {
  description = "On demand: downloads, crops and Jacobians; much disk and network, few cores."
  type        = object({ machine = string, cores = number, most = number })
  default     = { machine = "n2d-standard-4", cores = 4, most = 4 }
}

variable "disk" {
  description = "GB of each node's boot disk: images, pods' scratch, and the meteorology that pods of a node share."
  type        = number
  default     = 200
}

variable "protected" {
  description = "Whether the cluster refuses to be removed; docs/deploy.md."
  type        = bool
  default     = true
}

# Written by ../apply.sh from what Google says of the region, before each plan.
variable "limits" {
  description = "The region's quotas, by Google's names."
  type        = map(number)
}

variable "used" {
  description = "What is in use of them, this cluster's own nodes left out."
  type        = map(number)
}
