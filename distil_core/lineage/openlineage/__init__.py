"""The lineage that `dvc.lock` records, as run events of the OpenLineage standard."""
