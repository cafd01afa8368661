"""`distil record`: bring MLflow up to date after `dvc repro`, which does not record there."""

import argparse

from distil_core.lineage.evidence.snapshots import ensure_snapshots
from distil_core.lineage.mlflow.record import record_all, why_not_recorded
from distil_core.workspace import Workspace


def add_arguments(_: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(workspace: Workspace, _: argparse.Namespace) -> int:
    """Record what is finished, and say what is not."""
    ensure_snapshots(workspace)
    recorded = record_all(workspace)
    created = sum(iteration.created for iteration in recorded)
    print(f"MLflow: {len(recorded)} finished iterations, {created} of them recorded now")
    reason = why_not_recorded(workspace)
    if reason:
        print(f"Not all of the campaign is up to date: {reason}")
    return 0
