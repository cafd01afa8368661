"""Lineage: what DVC, git and MLflow keep of a campaign, and reproducing it."""
