output "user_data" {
  description = "The user-data as text: Google Cloud's metadata key user-data."
  value       = local.user_data
  sensitive   = true

  precondition {
    condition     = (var.token == null) != (var.token_command == null)
    error_message = "Give one of token_command (preferred) and token."
  }
  precondition {
    condition     = !var.no_default_labels || length(var.labels) > 0
    error_message = "no_default_labels needs labels."
  }
  precondition {
    condition     = strcontains(local.user_data, "REPLACE-WITH-") == false
    error_message = "A placeholder is left in the user-data: replace it in the variable that has it."
  }
}

output "user_data_base64" {
  description = "The same in base64: user_data of AWS launch templates, custom_data of Azure scale sets."
  value       = base64encode(local.user_data)
  sensitive   = true
}

output "user_data_gzip_base64" {
  description = "The same, compressed, in base64: where size is short. AWS takes it, Azure and Google Cloud do not decode it for every image."
  value       = base64gzip(local.user_data)
  sensitive   = true
}
