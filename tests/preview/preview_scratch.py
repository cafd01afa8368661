"""A tiny workspace with a base policy and settings, and sessions of previews in it."""

import hashlib
import json
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

Rows = list[dict[str, Any]]


def tiny_settings(**changes: dict[str, Any]) -> dict[str, Any]:
    """The settings of tests/tasks/pipeline_scratch.py as params.yaml has them."""
    found: dict[str, Any] = params(0, **changes).model_dump(mode="json")
    for name in ("iteration", "stage_versions", "schema_version"):
        found.pop(name)
    return found


def write_settings(workspace: Workspace, values: dict[str, Any]) -> None:
    workspace.params_file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def sums(count: int = 20) -> Rows:
    return [
        {"question": f"What is {n} and {n}?", "answer": f"{n}+{n}={2 * n}\n#### {2 * n}"}
        for n in range(count)
    ]


def write_own_data(workspace: Workspace, rows: Rows, verifier: Any, **context: Any) -> None:
    """Settings with these rows, of which some are held out, and the checkpoint in `model`."""
    file = workspace.root / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = tiny_settings()
    settings["problems"] = {
        "source": {
            "name": "jsonl",
            "options": {
                "train": {
                    "path": str(file),
                    "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                },
                "prompt_field": "question",
                "reference_field": "answer",
                "eval_fraction": 0.3,
            },
        },
        "num_warm_start": 0,
        "num_train": 8,
        "num_eval": 2,
    }
    settings["base"] = {"kind": "pretrained", "path_or_id": str(workspace.root / "model")}
    settings["consult"]["verifier"] = verifier
    settings["context"] |= {"max_context_tokens": 200, **context}
    write_settings(workspace, settings)


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
