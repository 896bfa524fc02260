"""What any room may lean on: files, errors, progress, credentials, archives, the closure of imports."""
