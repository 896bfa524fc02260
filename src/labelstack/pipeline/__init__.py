"""One file per DVC stage: read inputs, call a room, write outputs, log the run."""
