"""MLflow: a window on the records."""
