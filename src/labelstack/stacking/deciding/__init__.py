"""From probabilities to labels: thresholds, expected F, calibration."""
