"""MLflow runs, lineage to DVC, the ensemble as a pyfunc model, and the registry."""
