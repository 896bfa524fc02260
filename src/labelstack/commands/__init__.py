"""What a person types, a file for each command; the stages of dvc.yaml lie in `stages`."""
