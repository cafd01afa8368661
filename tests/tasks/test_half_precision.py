"""An iteration in bfloat16 on a CPU that has it: finite, and the same bytes each time (10 s)."""

import json
import math
from pathlib import Path

import pytest
import torch
from pipeline_scratch import all_files, params

from distil_core.errors import ConfigError
from distil_core.policy.device import require_device
from distil_core.progress import no_progress
from distil_core.tables.schemas import FEEDBACK
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, problems, sample, tabulate, train

COMPUTE = {"dtype": "bfloat16"}


def run(root: Path) -> dict[str, bytes]:
    workspace = Workspace(root)
    torch.set_num_threads(1)
    for iteration, stages in enumerate(
        ((problems, base, evaluate), (sample, consult, tabulate, train, evaluate))
    ):
        for stage in stages:
            stage.body(workspace, params(iteration, compute=COMPUTE), no_progress)
    return all_files(workspace)


def test_an_iteration(tmp_path: Path) -> None:
    try:
        require_device(params(0, compute=COMPUTE).compute)
    except ConfigError as error:
        pytest.skip(str(error))
    first, again = run(tmp_path / "first"), run(tmp_path / "again")
    assert first == again
    workspace = Workspace(tmp_path / "first")
    for row in read_rows(workspace.feedback_dir(1), FEEDBACK):
        assert all(map(math.isfinite, row.behaviour_logprobs))
        assert not any(map(math.isnan, row.expert_logprobs))
    metrics = json.loads(workspace.metrics_file(1).read_text())
    assert 0 <= metrics["pass_at_1"] <= 1
