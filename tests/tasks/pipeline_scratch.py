"""A tiny campaign for tests of the stages' bodies, its settings, and how its tables are changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from distil_core.campaign.load import parse_iteration_params
from distil_core.config.models import IterationParams
from distil_core.progress import no_progress
from distil_core.tables.store import read_rows, read_table, write_table
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, gate, problems, sample, tabulate, train

PROJECT = Path(__file__).parents[2]
CHANGES: dict[str, Any] = {
    "problems": {
        "source": {
            "name": "chain_arithmetic",
            "options": {"num_operations": 2, "modulus": 3, "demonstrator_slip_probability": 0.5},
        },
        "num_warm_start": 40,
        "num_train": 24,
        "num_eval": 10,
        "generalisation": {"num_problems": 6, "options": {"num_operations": 3}},
    },
    "sample": {"num_prompts": 8, "num_rollouts": 3, "max_new_tokens": 3},
    "consult": {"verifier": {"name": "chain_arithmetic", "options": {"modulus": 3}}},
    "tabulate": {"rows_per_shard": 10, "top_k": 6},
    "train": {"num_steps": 5, "batch_rollouts": 12},
    "evaluate": {"num_samples": 4, "max_new_tokens": 4, "num_bootstrap": 200},
    "gate": {"margins": {"pass_at_1": 1.0}},
    "base": {
        "architecture": {
            "hidden_size": 16,
            "num_layers": 1,
            "num_heads": 2,
            "intermediate_size": 32,
            "max_positions": 100,
        },
        "phases": [{"num_steps": 20, "correction_fraction": 0.4}],
        "batch_size": 32,
        "warmup_steps": 5,
        "learning_rate": 0.02,
    },
}


def params(iteration: int, **changes: dict[str, Any]) -> IterationParams:
    """The project's settings made tiny; `changes` by section."""
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for source in (CHANGES, changes):
        for section, settings in source.items():
            values[section] |= settings
    return parse_iteration_params(
        {**values, "iteration": iteration, "stage_versions": {}}, f"{iteration}.yaml"
    )


def run_campaign(workspace: Workspace) -> None:
    torch.set_num_threads(1)
    for stage in (problems, base, evaluate):
        stage.body(workspace, params(0), no_progress)
    for iteration in (1, 2):
        for stage in (sample, consult, tabulate, train, evaluate, gate):
            stage.body(workspace, params(iteration), no_progress)


def all_files(workspace: Workspace) -> dict[str, bytes]:
    return {
        workspace.relative(path): path.read_bytes()
        for path in sorted(workspace.root.rglob("*"))
        if path.is_file()
    }


def rewrite(path: Path, schema: Any, change: Callable[[int, Any], Any]) -> None:
    _, context = read_table(path, schema)
    rows = [change(index, row) for index, row in enumerate(read_rows(path, schema))]
    write_table(path, schema, rows, context)
