# What each variable refuses. A run here passes if, and only if, the one that is named refuses.

variables {
  url           = "https://github.com/octo-org"
  token_command = "cat /run/token"
}

run "url_over_http_to_elsewhere" {
  command = plan

  variables {
    url = "http://github.com/octo-org"
  }
  expect_failures = [var.url]
}

run "url_without_scope" {
  command = plan

  variables {
    url = "https://github.com/"
  }
  expect_failures = [var.url]
}

run "url_too_deep" {
  command = plan

  variables {
    url = "https://github.com/octo-org/hello/actions"
  }
  expect_failures = [var.url]
}

run "url_of_the_api" {
  command = plan

  variables {
    url = "https://api.github.com/octo-org"
  }
  expect_failures = [var.url]
}

run "url_with_a_password" {
  command = plan

  variables {
    url = "https://user:secret@github.com/octo-org"
  }
  expect_failures = [var.url]
}

run "url_of_no_enterprise" {
  command = plan

  variables {
    url = "https://github.com/enterprises"
  }
  expect_failures = [var.url]
}

run "token_command_empty" {
  command = plan

  variables {
    token_command = " "
  }
  expect_failures = [var.token_command]
}

run "token_command_that_is_the_token" {
  command = plan

  variables {
    token_command = "echo ghp_0123456789abcdef0123456789abcdef0123"
  }
  expect_failures = [var.token_command]
}

run "token_with_a_line_end" {
  command = plan

  variables {
    token_command = null
    token         = "one\ntwo"
  }
  expect_failures = [var.token]
}

run "token_empty" {
  command = plan

  variables {
    token_command = null
    token         = ""
  }
  expect_failures = [var.token]
}

run "package_over_http" {
  command = plan

  variables {
    package = { url = "http://example.com/runup.deb", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
  }
  expect_failures = [var.package]
}

run "package_of_another_kind" {
  command = plan

  variables {
    package = { url = "https://example.com/runup.tar.gz", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
  }
  expect_failures = [var.package]
}

run "package_that_leaves_the_quotes" {
  command = plan

  variables {
    package = { url = "https://example.com/'; reboot; '.deb", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
  }
  expect_failures = [var.package]
}

run "package_with_a_short_digest" {
  command = plan

  variables {
    package = { url = "https://example.com/runup.deb", sha256 = "aaaa" }
  }
  expect_failures = [var.package]
}

run "name_with_an_unknown_placeholder" {
  command = plan

  variables {
    name = "{host}"
  }
  expect_failures = [var.name]
}

run "name_with_half_a_brace" {
  command = plan

  variables {
    name = "ci-{hostname"
  }
  expect_failures = [var.name]
}

run "name_empty" {
  command = plan

  variables {
    name = " "
  }
  expect_failures = [var.name]
}

run "name_too_long" {
  command = plan

  variables {
    name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{random}"
  }
  expect_failures = [var.name]
}

run "label_with_a_comma" {
  command = plan

  variables {
    labels = ["a,b"]
  }
  expect_failures = [var.labels]
}

run "label_empty" {
  command = plan

  variables {
    labels = ["a", ""]
  }
  expect_failures = [var.labels]
}

run "label_with_a_space_at_its_end" {
  command = plan

  variables {
    labels = ["a "]
  }
  expect_failures = [var.labels]
}

run "group_empty" {
  command = plan

  variables {
    group = ""
  }
  expect_failures = [var.group]
}

run "group_that_looks_like_an_option" {
  command = plan

  variables {
    group = "-x"
  }
  expect_failures = [var.group]
}

run "after_job_unknown" {
  command = plan

  variables {
    after_job = "reboot"
  }
  expect_failures = [var.after_job]
}

run "drain_without_a_number" {
  command = plan

  variables {
    drain = "soon"
  }
  expect_failures = [var.drain]
}

run "drain_empty" {
  command = plan

  variables {
    drain = ""
  }
  expect_failures = [var.drain]
}

run "drain_negative" {
  command = plan

  variables {
    drain = "-5s"
  }
  expect_failures = [var.drain]
}

run "on_shutdown_unknown" {
  command = plan

  variables {
    on_shutdown = "drain"
  }
  expect_failures = [var.on_shutdown]
}

run "settings_with_dashes_in_front" {
  command = plan

  variables {
    settings = { "--work" = "x" }
  }
  expect_failures = [var.settings]
}

run "settings_that_leave_their_line" {
  command = plan

  variables {
    settings = { "a = 1\nb" = "x" }
  }
  expect_failures = [var.settings]
}

run "settings_with_a_variable_of_its_own" {
  command = plan

  variables {
    settings = { url = "https://github.com/other" }
  }
  expect_failures = [var.settings]
}

run "both_tokens" {
  command = plan

  variables {
    token = "github_pat_12345"
  }
  expect_failures = [output.user_data]
}

run "neither_token" {
  command = plan

  variables {
    token_command = null
  }
  expect_failures = [output.user_data]
}

run "no_default_labels_and_no_labels" {
  command = plan

  variables {
    no_default_labels = true
  }
  expect_failures = [output.user_data]
}

run "a_placeholder_left" {
  command = plan

  variables {
    token_command = "REPLACE-WITH-TOKEN-COMMAND"
  }
  expect_failures = [output.user_data]
}
