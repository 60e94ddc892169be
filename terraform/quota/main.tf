# Does what the pools may grow to fit into what the region still lends? No provider: numbers in, a plain answer out.

variable "wanted" {
  description = "What is asked for at most, by Google's name of the quota: CPUS, PREEMPTIBLE_CPUS, SSD_TOTAL_GB and so on."
  type        = map(number)
}

variable "limits" {
  description = "What the region allows, by the same names."
  type        = map(number)
}

variable "used" {
  description = "What is in use there now, by the same names."
  type        = map(number)
}

locals {
  short = {
    for name, amount in var.wanted : name => amount - (lookup(var.limits, name, 0) - lookup(var.used, name, 0))
    if amount > lookup(var.limits, name, 0) - lookup(var.used, name, 0)
  }
}

output "short" {
  description = "By how much each quota is too small; empty if all is well."
  value       = local.short
}

output "line" {
  description = "The same in words, for an error."
  value = length(local.short) == 0 ? "" : format("the region lacks quota: %s; ask for more, or lower the pools", join(", ", [
    for name, amount in local.short : format("%s by %s", name, amount)
  ]))
}
