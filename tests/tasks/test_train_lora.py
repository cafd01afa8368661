"""Two iterations of adapters and packed rows leave ordinary policies, twice the same (20 s)."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pipeline_scratch import CHANGES, PROJECT

from distil_core.campaign.load import load_iteration_params
from distil_core.policy.model import load_model
from distil_core.progress import no_progress
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, gate, problems, sample, tabulate, train

LORA = {"rank": 4, "alpha": 8.0, "target_modules": ["q_proj", "down_proj"], "dropout": 0.1}


def run(root: Path) -> Workspace:
    workspace = Workspace(root)
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for section, changes in CHANGES.items():
        values[section] |= changes
    values["train"] |= {"lora": LORA, "layout": "packed", "micro_batch_rollouts": 5}
    for iteration in (0, 1, 2):
        path = workspace.frozen_params_file(iteration)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({**values, "iteration": iteration, "stage_versions": {}}))
    torch.set_num_threads(1)
    once, each = (problems, base), (sample, consult, tabulate, train, evaluate, gate)
    for iteration, stages in ((0, (*once, evaluate)), (1, each), (2, each)):
        for stage in stages:
            stage.body(workspace, load_iteration_params(workspace, iteration), no_progress)
    return workspace


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> list[Workspace]:
    return [run(tmp_path_factory.mktemp(name)) for name in ("one", "two")]


def test_each_policy_is_its_parent_with_other_targets(
    workspaces: list[Workspace], compute: Any
) -> None:
    workspace = workspaces[0]
    for iteration in (1, 2):
        parent = load_model(workspace.parent_dir(iteration), compute).state_dict()
        policy = load_model(workspace.policy_dir(iteration), compute).state_dict()
        assert policy.keys() == parent.keys()
        changed = {name for name in policy if not torch.equal(policy[name], parent[name])}
        assert changed == {n for n in policy if "q_proj" in n or "down_proj" in n}
        for name in changed:
            rank = torch.linalg.matrix_rank((policy[name] - parent[name]).double(), rtol=1e-4)
            assert 0 < rank <= LORA["rank"]  # type: ignore[operator]


def test_both_runs_have_the_same_bytes(workspaces: list[Workspace]) -> None:
    one, two = (
        {
            workspace.relative(path): path.read_bytes()
            for iteration in (1, 2)
            for path in workspace.policy_dir(iteration).iterdir()
        }
        for workspace in workspaces
    )
    assert one == two
    assert not any("adapter" in name for name in one)
