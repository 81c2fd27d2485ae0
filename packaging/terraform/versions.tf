terraform {
  # Terraform or OpenTofu. No provider: this module only renders text.
  required_version = ">= 1.6"
}
