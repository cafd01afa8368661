"""A campaign whose stages really ran, small, with the `dvc.lock` that DVC would have written."""

import subprocess
import sys
from pathlib import Path

import yaml

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("tasks", "lineage")]

from mlflow_scratch import lock_all, reject, write_listing  # noqa: E402
from pipeline_scratch import params, run_campaign  # noqa: E402

from distil_core.workspace import Workspace  # noqa: E402

__all__ = ["finished_campaign", "lock_all", "params", "reject"]


def finished_campaign(root: Path) -> Workspace:
    """Two iterations, in a git repository, with data to read and settings frozen."""
    root.mkdir(parents=True)
    workspace = Workspace(root)
    run_campaign(workspace)
    for iteration in range(3):
        path = workspace.frozen_params_file(iteration)
        path.parent.mkdir(exist_ok=True)
        settings = params(iteration).model_dump(mode="json")
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
    lock_all(workspace, range(3))
    write_listing(workspace, 2)
    (root / ".gitignore").write_text("/data/\n/.distil/\n/mlflow.db*\n")
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=test", "-c", "user.email=t@example.org", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", "-C", root, *arguments], check=True)
    return workspace
