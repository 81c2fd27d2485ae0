output "user_data" {
  description = "The user-data as text, for Google Cloud's metadata key user-data."
  value       = local.user_data
  sensitive   = true

  precondition {
    condition     = (var.token == null) != (var.token_command == null)
    error_message = "Set either token_command (preferred) or token."
  }
  precondition {
    condition     = !var.no_default_labels || length(var.labels) > 0
    error_message = "no_default_labels needs labels."
  }
  precondition {
    condition     = strcontains(local.user_data, "REPLACE-WITH-") == false
    error_message = "The user-data still contains a REPLACE-WITH- placeholder: replace it in the variable that has it."
  }
}

output "user_data_base64" {
  description = "The user-data in base64, for user_data of AWS launch templates and custom_data of Azure scale sets."
  value       = base64encode(local.user_data)
  sensitive   = true
}

output "user_data_gzip_base64" {
  description = "The user-data compressed and in base64, where size is limited. AWS accepts it; Azure and Google Cloud do not decode it for every image."
  value       = base64gzip(local.user_data)
  sensitive   = true
}
