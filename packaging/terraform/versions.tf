terraform {
  # Terraform or OpenTofu. No provider: this module renders text and touches no cloud.
  required_version = ">= 1.6"
}
