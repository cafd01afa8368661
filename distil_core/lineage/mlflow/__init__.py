"""MLflow: the record of iterations, and the pages that people read."""
