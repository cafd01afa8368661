"""MLflow: an iteration's record, and the pages people read."""
