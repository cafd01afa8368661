"""Snapshots: everything that a rerun of an iteration needs, under a git ref."""
