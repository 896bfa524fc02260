"""`labelstack compare`: sides found by name, read from files or MLflow, and set beside each other."""
