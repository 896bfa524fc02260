"""Whether a place in S3 can be used, and the policy that grants it."""
