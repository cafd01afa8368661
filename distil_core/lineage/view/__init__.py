"""`distil lineage`: the graph of a campaign's artifacts, beside what MLflow has of it."""
