# What each variable does to the user-data. `terraform test` needs no network and no cloud.

variables {
  url           = "https://github.com/octo-org"
  token_command = "cat /run/token"
}

# Beside what the variables are for, the user-data is that of the files which people read.
run "on_a_ready_image_it_is_the_file" {
  command = plan

  assert {
    condition     = startswith(output.user_data, "#cloud-config\n")
    error_message = "cloud-init knows its own by the first line"
  }
  assert {
    condition     = yamldecode(output.user_data).runcmd == yamldecode(file("../cloud-init/baked.yaml")).runcmd
    error_message = "runcmd"
  }
  assert {
    condition     = yamldecode(output.user_data).bootcmd == yamldecode(file("../cloud-init/baked.yaml")).bootcmd
    error_message = "bootcmd"
  }
  assert {
    condition     = yamldecode(output.user_data).write_files[0].content == replace(yamldecode(file("../cloud-init/baked.yaml")).write_files[0].content, "'''REPLACE-WITH-TOKEN-COMMAND'''", "\"cat /run/token\"")
    error_message = "the configuration"
  }
  assert {
    condition     = !strcontains(output.user_data, "permissions: '0600'") && length(yamldecode(output.user_data).write_files) == 1
    error_message = "no token is written"
  }
}

run "with_a_package_it_is_the_persistent_file" {
  command = plan

  variables {
    package = { url = "https://example.com/runup.deb", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
  }
  assert {
    condition = yamldecode(output.user_data).runcmd == [
      for line in yamldecode(file("../cloud-init/persistent.yaml")).runcmd : replace(replace(line,
      "REPLACE-WITH-URL-OF-DEB", "'${var.package.url}'"), "REPLACE-WITH-SHA256-OF-DEB", var.package.sha256)
    ]
    error_message = "runcmd"
  }
  assert {
    condition     = yamldecode(output.user_data).write_files[0].content == replace(yamldecode(file("../cloud-init/persistent.yaml")).write_files[0].content, "'''REPLACE-WITH-TOKEN-COMMAND'''", "\"cat /run/token\"")
    error_message = "the configuration"
  }
}

run "with_a_package_and_ephemeral_it_is_the_ephemeral_file" {
  command = plan

  variables {
    ephemeral = true
    package   = { url = "https://example.com/runup.deb", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
  }
  assert {
    condition     = yamldecode(output.user_data).write_files[0].content == replace(yamldecode(file("../cloud-init/ephemeral.yaml")).write_files[0].content, "'''REPLACE-WITH-TOKEN-COMMAND'''", "\"cat /run/token\"")
    error_message = "the configuration"
  }
}

run "an_rpm_is_installed_by_dnf" {
  command = plan

  variables {
    package = { url = "https://example.com/runup.rpm", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
  }
  assert {
    condition     = contains(yamldecode(output.user_data).runcmd, "dnf install --assumeyes /run/runup.rpm")
    error_message = "dnf"
  }
  assert {
    condition     = !strcontains(output.user_data, ".deb") && !strcontains(output.user_data, "apt-get")
    error_message = "nothing of Debian's is left"
  }
}

run "the_token_command_is_kept_word_by_word" {
  command = plan

  variables {
    token_command = " aws secrets | jq --raw-output '.\"a\"' # the token "
  }
  assert {
    condition     = strcontains(yamldecode(output.user_data).write_files[0].content, "\ntoken-command = \"aws secrets | jq --raw-output '.\\\"a\\\"' # the token\"\n")
    error_message = "it is one of TOML's strings, with its quotes escaped"
  }
}

run "a_token_is_written_for_root_alone_and_nothing_fetches" {
  command = plan

  variables {
    token_command = null
    token         = "github_pat_12345"
  }
  assert {
    condition     = yamldecode(output.user_data).write_files[1] == { path = "/etc/runup/token", permissions = "0600", content = "github_pat_12345\n" }
    error_message = "0600"
  }
  assert {
    condition     = !strcontains(yamldecode(output.user_data).write_files[0].content, "token-command")
    error_message = "nothing fetches one"
  }
  assert {
    condition     = !strcontains(join("\n", yamldecode(output.user_data).runcmd), "github_pat_12345")
    error_message = "no secret on a command line"
  }
}

run "the_three_forms_are_the_same_text" {
  command = plan

  assert {
    condition     = base64decode(output.user_data_base64) == output.user_data
    error_message = "base64"
  }
  assert {
    condition     = output.user_data_gzip_base64 == base64gzip(output.user_data)
    error_message = "gzip"
  }
}

run "options_become_keys_of_the_configuration" {
  command = plan

  variables {
    url               = "https://ghes.example.com:8443/enterprises/octo"
    name              = "ci-{hostname}-{random}"
    labels            = ["gpu", "a \"large\" one"]
    no_default_labels = true
    group             = "my group"
    ephemeral         = true
    after_job         = "again"
    drain             = "1h30m"
    on_shutdown       = "keep"
    deps              = true
    settings          = { disable-update = true, runner-version = "2.336.0" }
  }
  assert {
    condition     = yamldecode(output.user_data).write_files[0].content == <<-TOML
      url = "https://ghes.example.com:8443/enterprises/octo"
      token-command = "cat /run/token"
      deps = true
      ephemeral = true
      after-job = "again"
      name = "ci-{hostname}-{random}"
      labels = ["gpu","a \"large\" one"]
      no-default-labels = true
      group = "my group"
      drain = "1h30m"
      remove-on-shutdown = false
      disable-update = "true"
      runner-version = "2.336.0"
    TOML
    error_message = "the configuration"
  }
}

run "leaving_the_server_at_shutdown" {
  command = plan

  variables {
    on_shutdown = "remove"
  }
  assert {
    condition     = strcontains(output.user_data, "remove-on-shutdown = true")
    error_message = "remove"
  }
}

run "libraries_can_be_left_alone" {
  command = plan

  variables {
    deps    = false
    package = { url = "https://example.com/runup.deb", sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
  }
  assert {
    condition     = !strcontains(output.user_data, "deps")
    error_message = "deps"
  }
}

run "after_job_is_for_ephemeral_runners" {
  command = plan

  assert {
    condition     = !strcontains(output.user_data, "after-job") && !strcontains(output.user_data, "ephemeral")
    error_message = "a persistent runner has no one job"
  }
}

run "a_repository" {
  command = plan

  variables {
    url = "https://octo.ghe.com/octo-org/hello.world"
  }
}

run "a_sandbox_on_this_machine" {
  command = plan

  variables {
    url = "http://127.0.0.1:8080/octo-org"
  }
}
