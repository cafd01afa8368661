"""A tiny workspace with a base policy and settings, and sessions of previews in it."""

import sys
from pathlib import Path
from typing import Any

import yaml

from distil_core.config.models import ComputeParams
from distil_core.preview.session import Choices, PreviewSession
from distil_core.progress import no_progress
from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "tasks"))
from pipeline_scratch import params


def tiny_settings(**changes: dict[str, Any]) -> dict[str, Any]:
    """The settings of tests/tasks/pipeline_scratch.py as params.yaml has them."""
    found: dict[str, Any] = params(0, **changes).model_dump(mode="json")
    for name in ("iteration", "stage_versions", "schema_version"):
        found.pop(name)
    return found


def write_settings(workspace: Workspace, values: dict[str, Any]) -> None:
    workspace.params_file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def make_base(workspace: Workspace) -> None:
    """Problems and base policy, by their stages."""
    import torch

    from distil_tasks import base, problems

    torch.set_num_threads(1)
    for stage in (problems, base):
        stage.body(workspace, params(0), no_progress)


def session(workspace: Workspace, scratch: Path, keeps: bool = False, **choices: Any) -> Any:
    scratch.mkdir(exist_ok=True)

    def prepare(_: ComputeParams) -> None: ...

    return PreviewSession(
        workspace, Choices(**{"num_problems": 4, **choices}), scratch, prepare, keeps
    )


def files_of(workspace: Workspace) -> dict[str, bytes]:
    return {
        str(path.relative_to(workspace.root)): path.read_bytes()
        for path in sorted(workspace.root.rglob("*"))
        if path.is_file() and ".distil" not in path.parts
    }
