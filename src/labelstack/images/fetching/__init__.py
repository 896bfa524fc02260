"""One image over the web, from S3 or from a file, within the policy."""
