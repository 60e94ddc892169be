run "enough_is_silent" {
  command = plan
  variables {
    wanted = { CPUS = 24, PREEMPTIBLE_CPUS = 800 }
    limits = { CPUS = 72, PREEMPTIBLE_CPUS = 1000 }
    used   = { CPUS = 48, PREEMPTIBLE_CPUS = 0 }
  }
  assert {
    condition     = length(output.short) == 0 && output.line == ""
    error_message = "24 of the 24 CPUs that are left are enough"
  }
}

run "one_too_few_is_told_with_its_name_and_number" {
  command = plan
  variables {
    wanted = { CPUS = 25, PREEMPTIBLE_CPUS = 800 }
    limits = { CPUS = 72, PREEMPTIBLE_CPUS = 1000 }
    used   = { CPUS = 48, PREEMPTIBLE_CPUS = 0 }
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

run "a_quota_that_the_region_does_not_know_lends_nothing" {
  command = plan
  variables {
    wanted = { LOCAL_SSD_TOTAL_GB = 375 }
    limits = { CPUS = 72 }
    used   = {}
  }
  assert {
    condition     = output.short == { LOCAL_SSD_TOTAL_GB = 375 }
    error_message = "an unknown quota is none"
  }
}
