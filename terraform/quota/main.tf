# Does what the pools may grow to fit into what the region still lends? No provider: numbers in, a plain answer out.

variable "pools" {
  description = "What each pool may grow to: its machines, their cores, how many at most, and whether on spot."
  type        = list(object({ machine = string, cores = number, most = number, spot = bool }))
}

variable "disk" {
  description = "GB of SSD of each machine."
  type        = number
}

variable "limits" {
  description = "What the region allows, by Google's name of the quota: CPUS, PREEMPTIBLE_CPUS, SSD_TOTAL_GB and so on."
  type        = map(number)
}

variable "used" {
  description = "What is in use there now, by the same names."
  type        = map(number)
}

locals {
  # E2 and N1 share CPUS; every other series has a quota of its own. Spot machines take from those, too, until the project
  # has been given PREEMPTIBLE_CPUS.
  cpus = [for pool in var.pools : {
    amount = pool.cores * pool.most
    quota = (
      pool.spot && lookup(var.limits, "PREEMPTIBLE_CPUS", 0) > 0 ? "PREEMPTIBLE_CPUS" :
      contains(["e2", "n1"], split("-", pool.machine)[0]) ? "CPUS" : "${upper(split("-", pool.machine)[0])}_CPUS"
    )
  }]
  machines = sum(var.pools[*].most)
  wanted = merge(
    { for quota in local.cpus[*].quota : quota => sum([for each in local.cpus : each.amount if each.quota == quota])... },
    { SSD_TOTAL_GB = [var.disk * local.machines], INSTANCES = [local.machines] },
  )
  short = {
    for name, amounts in local.wanted : name => amounts[0] - (lookup(var.limits, name, 0) - lookup(var.used, name, 0))
    if amounts[0] > lookup(var.limits, name, 0) - lookup(var.used, name, 0)
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
