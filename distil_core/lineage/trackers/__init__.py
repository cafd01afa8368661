"""Trackers beside MLflow: what was recorded of a campaign, written into another program's store."""
