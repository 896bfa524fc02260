"""A file for each stage of dvc.yaml: read inputs, call a room, write outputs, log the run; and what stages share."""
