"""MLflow runs, what is kept of them while the server is away, and their lineage to DVC."""
