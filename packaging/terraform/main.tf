locals {
  # These files define what happens at boot, and are also for people to read. They contain placeholders.
  files = "${path.module}/../cloud-init"
  file  = var.package == null ? "baked" : var.ephemeral ? "ephemeral" : "persistent"
  base  = yamldecode(file("${local.files}/${local.file}.yaml"))

  # A JSON string is also a valid TOML string.
  config = join("", [for line in concat(
    [
      "url = ${jsonencode(var.url)}",
      var.token == null ? "token-command = ${jsonencode(trimspace(coalesce(var.token_command, "false")))}" : "token-file = \"/etc/runup/token\"",
    ],
    coalesce(var.deps, var.package != null) ? ["deps = true"] : [],
    var.ephemeral ? ["ephemeral = true", "after-job = ${jsonencode(var.after_job)}"] : [],
    var.name == null ? [] : ["name = ${jsonencode(var.name)}"],
    length(var.labels) == 0 ? [] : ["labels = ${jsonencode(var.labels)}"],
    var.no_default_labels ? ["no-default-labels = true"] : [],
    var.group == null ? [] : ["group = ${jsonencode(var.group)}"],
    var.drain == null ? [] : ["drain = ${jsonencode(var.drain)}"],
    var.on_shutdown == null ? [] : ["remove-on-shutdown = ${var.on_shutdown == "remove"}"],
    [for key, value in var.settings : "${key} = ${jsonencode(value)}"],
  ) : "${line}\n"])

  rpm = var.package == null ? false : endswith(var.package.url, ".rpm")
  runcmd = [for line in local.base.runcmd : replace(replace(replace(replace(line,
    "REPLACE-WITH-URL-OF-DEB", var.package == null ? "" : "'${var.package.url}'"),
    "REPLACE-WITH-SHA256-OF-DEB", var.package == null ? "" : var.package.sha256),
    "DEBIAN_FRONTEND=noninteractive apt-get install --yes", local.rpm ? "dnf install --assumeyes" : "DEBIAN_FRONTEND=noninteractive apt-get install --yes"),
    "/run/runup.deb", local.rpm ? "/run/runup.rpm" : "/run/runup.deb")
  ]

  write_files = concat(
    [{ path = "/etc/runup/config.toml", permissions = "0644", content = local.config }],
    var.token == null ? [] : [{ path = "/etc/runup/token", permissions = "0600", content = "${var.token}\n" }],
  )

  user_data = join("\n", ["#cloud-config", yamlencode({
    bootcmd     = local.base.bootcmd
    write_files = local.write_files
    runcmd      = local.runcmd
  })])
}
