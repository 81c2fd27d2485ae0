variable "url" {
  description = "Organization, repository or enterprise of the runner: https://HOST/ORG, https://HOST/OWNER/REPO or https://HOST/enterprises/SLUG."
  type        = string
  nullable    = false

  validation {
    condition = can(regex(
      "^(https://[A-Za-z0-9.-]+|http://(127\\.0\\.0\\.1|localhost))(:[0-9]{1,5})?/(enterprises/[A-Za-z0-9_-]+|[A-Za-z0-9_-]+(/[A-Za-z0-9._-]+)?)/?$",
      var.url,
    ))
    error_message = "url must be https://HOST/ORG, https://HOST/OWNER/REPO or https://HOST/enterprises/SLUG (http only to this machine)."
  }
  validation {
    condition     = !can(regex("^https?://(api\\.|[^/]*/(enterprises|orgs|repos|api|settings)/?$)", var.url))
    error_message = "url must be the address of an organization, a repository or an enterprise on the web, not of the API."
  }
}

variable "token_command" {
  description = "Preferred: a shell command that prints the token, for example from the cloud's secret manager. root runs it on the machine whenever runup needs the token. Its program must be in the image."
  type        = string
  default     = null

  validation {
    condition     = var.token_command == null ? true : trimspace(var.token_command) != ""
    error_message = "token_command must not be empty."
  }
  validation {
    condition     = var.token_command == null ? true : !can(regex("(gh[pousr]|github_pat)_[A-Za-z0-9_]{16,}", var.token_command))
    error_message = "token_command must not contain a token: every job could read it in the user-data. Fetch the token instead, or use the variable token."
  }
}

variable "token" {
  description = "The token itself. It is then in the state, and in the user-data, which every job can read through the metadata service. Prefer token_command."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.token == null ? true : can(regex("^[!-~]+$", var.token))
    error_message = "token must not be empty, or contain spaces, line ends or other characters that tokens do not have."
  }
}

variable "package" {
  description = "The .deb or .rpm of runup to install, and its sha256. Null if the image already has runup."
  type = object({
    url    = string
    sha256 = string
  })
  default = null

  validation {
    condition     = var.package == null ? true : can(regex("^https://[^'\\s]+\\.(deb|rpm)$", var.package.url))
    error_message = "package.url must be an https:// URL that ends in .deb or .rpm, without quotes and spaces."
  }
  validation {
    condition     = var.package == null ? true : can(regex("^[0-9a-f]{64}$", var.package.sha256))
    error_message = "package.sha256 must be 64 lower-case hexadecimal digits, as printed by sha256sum."
  }
}

variable "name" {
  description = "The runner's name: text with {hostname}, {machine-id}, {random}, {os}, {arch}, {dir}, {index}. Null: {hostname}-{machine-id}."
  type        = string
  default     = null

  validation {
    condition     = var.name == null ? true : can(regex("^([^{}]|\\{(hostname|machine-id|random|os|arch|dir|index)\\})+$", var.name)) && trimspace(var.name) != ""
    error_message = "name must be text with {hostname}, {machine-id}, {random}, {os}, {arch}, {dir}, {index}, and no other braces."
  }
  validation {
    condition     = var.name == null ? true : length(replace(var.name, "/\\{[a-z-]+\\}/", "")) <= 64
    error_message = "name must not be longer than the 64 characters that GitHub accepts."
  }
}

variable "labels" {
  description = "Labels in addition to self-hosted and those for the operating system and the architecture."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for label in var.labels : can(regex("^[^,\\s]([^,]*[^,\\s])?$", label)) && length(label) <= 256])
    error_message = "a label must have 1 to 256 characters, without commas, and without spaces at either end."
  }
}

variable "no_default_labels" {
  description = "Omit the default labels."
  type        = bool
  default     = false
  nullable    = false
}

variable "group" {
  description = "Runner group, for organizations and enterprises."
  type        = string
  default     = null

  validation {
    condition     = var.group == null ? true : trimspace(var.group) != "" && !startswith(var.group, "-")
    error_message = "group must not be empty or begin with a dash."
  }
}

variable "ephemeral" {
  description = "Deregister the runner after one job."
  type        = bool
  default     = false
  nullable    = false
}

variable "after_job" {
  description = "After the job of an ephemeral runner: poweroff, so that the cloud replaces the machine; again, for the next job on the same machine; or stop."
  type        = string
  default     = "poweroff"
  nullable    = false

  validation {
    condition     = contains(["poweroff", "again", "stop"], var.after_job)
    error_message = "after_job must be poweroff, again or stop."
  }
}

variable "drain" {
  description = "How long to wait for a running job when the machine is stopped: 90s, 5m, 1h30m. Null: 5m."
  type        = string
  default     = null

  validation {
    condition     = var.drain == null ? true : can(regex("^([0-9]+|([0-9]+h)?([0-9]+m)?([0-9]+s)?)$", var.drain)) && var.drain != ""
    error_message = "drain must be a duration such as 90s, 5m or 1h30m."
  }
}

variable "on_shutdown" {
  description = "When the machine is stopped, \"remove\" the runner from GitHub or \"keep\" it. Null: remove if it is ephemeral."
  type        = string
  default     = null

  validation {
    condition     = var.on_shutdown == null ? true : contains(["remove", "keep"], var.on_shutdown)
    error_message = "on_shutdown must be remove or keep."
  }
}

variable "deps" {
  description = "Install missing libraries of the runner with the machine's package manager. Null: if package is set."
  type        = bool
  default     = null
}

variable "settings" {
  description = "Any other option of `runup install`, without leading dashes: { disable-update = true, runner-version = \"2.336.0\" }."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.settings) : can(regex("^[a-z0-9]+(-[a-z0-9]+)*$", key))])
    error_message = "a key of settings must be a long option of `runup install` without its leading dashes."
  }
  validation {
    condition = length(setintersection(keys(var.settings), [
      "url", "token-file", "token-command", "name", "labels", "no-default-labels", "group", "ephemeral", "after-job", "drain", "remove-on-shutdown", "deps",
    ])) == 0
    error_message = "settings must not contain a key that has a variable of its own."
  }
}
