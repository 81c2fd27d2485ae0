# Bakes an image whose machines become runners within seconds. It contains runup, its unit, the runner and the runner's
# libraries, and no identity, token or log.
#
#   packer build -var host=192.0.2.7 -var user=admin -var key=~/.ssh/id -var package=runup.deb -var url=https://github.com/octo-org \
#     -var token_file=token runup.pkr.hcl
#
# As it is, it prepares any machine with SSH, and you create the image from its disk. The `build` block also works with the
# builder of a cloud: add your source, such as amazon-ebs, azure-arm, googlecompute or qemu, next to "null.machine" in
# `sources`, and with Packer 1.7 or newer its plugin to `packer { required_plugins { … } }`.
#
# provision.sh does the work. Start machines of the image with ../cloud-init/baked.yaml.

variable "host" {
  type        = string
  description = "The machine that becomes the image."
}

variable "port" {
  type    = number
  default = 22
}

variable "user" {
  type        = string
  default     = "root"
  description = "root, or a user who can use sudo without a password."
}

variable "key" {
  type        = string
  description = "File with the user's private key."
}

variable "package" {
  type        = string
  description = "Local path of the .deb or .rpm of runup."
}

variable "url" {
  type        = string
  default     = ""
  description = "Organization, repository or enterprise to list the runner applications of: https://HOST/ORG, https://HOST/OWNER/REPO, https://HOST/enterprises/SLUG."
}

# A file, because a value would be visible on command lines. The copy on the machine is deleted as soon as it has been used.
variable "token_file" {
  type        = string
  default     = "/dev/null"
  description = "Local file with the token for that list."
}

# Instead of url and token_file, to need no credential.
variable "archive" {
  type        = string
  default     = ""
  description = "URL of the runner's archive; needs sha256."
}

variable "sha256" {
  type    = string
  default = ""
}

variable "environment" {
  type        = list(string)
  default     = []
  description = "More environment variables for provision.sh, such as https_proxy=URL or RUNUP_MIRROR=URL. Do not pass secrets."
}

locals {
  directory = "/var/tmp/runup-bake"
}

source "null" "machine" {
  communicator         = "ssh"
  ssh_host             = var.host
  ssh_port             = var.port
  ssh_username         = var.user
  ssh_private_key_file = var.key
  # scp is not installed everywhere.
  ssh_file_transfer_method = "sftp"
}

build {
  sources = ["source.null.machine"]

  # Keep other users of the machine away from the uploaded files.
  provisioner "shell" {
    inline = ["rm -rf ${local.directory} && mkdir -m 700 ${local.directory}"]
  }

  provisioner "file" {
    source      = var.package
    destination = "${local.directory}/package"
  }

  provisioner "file" {
    source      = var.token_file
    destination = "${local.directory}/token"
  }

  provisioner "shell" {
    script = "provision.sh"
    environment_vars = concat([
      "RUNUP_BAKE_FOLDER=${local.directory}",
      "RUNUP_URL=${var.url}",
      "RUNUP_ARCHIVE=${var.archive}",
      "RUNUP_SHA256=${var.sha256}",
    ], var.environment)
    execute_command = "${var.user == "root" ? "" : "sudo "}env {{ .Vars }} sh {{ .Path }}"
  }
}
