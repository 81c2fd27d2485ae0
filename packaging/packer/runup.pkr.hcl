# Bakes an image from which machines become runners in seconds: runup, its unit, the runner and the runner's libraries are in
# it; no identity, no token and no log is.
#
#   packer build -var host=192.0.2.7 -var user=admin -var key=~/.ssh/id -var package=runup.deb -var url=https://github.com/octo-org \
#     -var token_file=token runup.pkr.hcl
#
# As it stands it prepares any machine that answers SSH, and you take the image of its disk. With a cloud's builder it is the
# same `build` block: put your source, for instance amazon-ebs, azure-arm, googlecompute or qemu, beside "null.machine" in
# `sources`, and with Packer 1.7 and newer its plugin into `packer { required_plugins { … } }`.
#
# The work is done by provision.sh. Machines of the image start with ../cloud-init/baked.yaml.

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
  description = "Root, or one who may use sudo without a password."
}

variable "key" {
  type        = string
  description = "File with the user's private key."
}

variable "package" {
  type        = string
  description = "The release's .deb or .rpm of runup, here."
}

variable "url" {
  type        = string
  default     = ""
  description = "Whose list of runner applications is asked for the newest: https://HOST/ORG, https://HOST/OWNER/REPO, https://HOST/enterprises/SLUG."
}

# A file, since a value would be on command lines. It is deleted there as soon as it has been used.
variable "token_file" {
  type        = string
  default     = "/dev/null"
  description = "File here with the token for that list."
}

# Instead of url and token_file: no credential at all.
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
  description = "More variables for provision.sh, such as https_proxy=URL or RUNUP_MIRROR=URL; no secrets."
}

locals {
  folder = "/var/tmp/runup-bake"
}

source "null" "machine" {
  communicator         = "ssh"
  ssh_host             = var.host
  ssh_port             = var.port
  ssh_username         = var.user
  ssh_private_key_file = var.key
  # scp is not everywhere.
  ssh_file_transfer_method = "sftp"
}

build {
  sources = ["source.null.machine"]

  # Nobody else of that machine gets at what is uploaded.
  provisioner "shell" {
    inline = ["rm -rf ${local.folder} && mkdir -m 700 ${local.folder}"]
  }

  provisioner "file" {
    source      = var.package
    destination = "${local.folder}/package"
  }

  provisioner "file" {
    source      = var.token_file
    destination = "${local.folder}/token"
  }

  provisioner "shell" {
    script = "provision.sh"
    environment_vars = concat([
      "RUNUP_BAKE_FOLDER=${local.folder}",
      "RUNUP_URL=${var.url}",
      "RUNUP_ARCHIVE=${var.archive}",
      "RUNUP_SHA256=${var.sha256}",
    ], var.environment)
    execute_command = "${var.user == "root" ? "" : "sudo "}env {{ .Vars }} sh {{ .Path }}"
  }
}
