variables {
  pools = [
    { machine = "e2-standard-4", cores = 4, most = 3, spot = false },
    { machine = "n2d-standard-4", cores = 4, most = 2, spot = false },
    { machine = "n2d-standard-16", cores = 16, most = 5, spot = true },
  ]
  disk = 100
  used = { CPUS = 2, SSD_TOTAL_GB = 500 }
}

run "enough_is_silent" {
  command = plan
  variables {
    limits = { CPUS = 14, N2D_CPUS = 8, PREEMPTIBLE_CPUS = 80, SSD_TOTAL_GB = 1500, INSTANCES = 10 }
  }
  assert {
    condition     = length(output.short) == 0 && output.line == ""
    error_message = "12 of the 12 CPUs that are left are enough"
  }
}

run "one_too_few_is_told_with_its_name_and_number" {
  command = plan
  variables {
    limits = { CPUS = 13, N2D_CPUS = 8, PREEMPTIBLE_CPUS = 80, SSD_TOTAL_GB = 1500, INSTANCES = 10 }
  }
  assert {
    condition     = output.short == { CPUS = 1 }
    error_message = "CPUS lack 1"
  }
  assert {
    condition     = strcontains(output.line, "CPUS by 1;")
    error_message = "the line names quota and number"
  }
}

run "without_a_quota_of_its_own_spot_takes_from_the_others" {
  command = plan
  variables {
    limits = { CPUS = 14, N2D_CPUS = 80, PREEMPTIBLE_CPUS = 0, SSD_TOTAL_GB = 1500, INSTANCES = 10 }
  }
  assert {
    condition     = output.short == { N2D_CPUS = 8 }
    error_message = "88 cores of n2d are wanted, 80 are to be had"
  }
}

run "a_quota_that_the_region_does_not_know_lends_nothing" {
  command = plan
  variables {
    limits = { CPUS = 14, N2D_CPUS = 8, PREEMPTIBLE_CPUS = 80, INSTANCES = 10 }
    used   = {}
  }
  assert {
    condition     = output.short == { SSD_TOTAL_GB = 1000 }
    error_message = "an unknown quota is none"
  }
}
