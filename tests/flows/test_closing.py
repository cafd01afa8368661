"""What a run ends with: the champion, where its weights lie, how to load them. Quick."""

import io
import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from distil_core.evaluation.comparison import Difference
from distil_core.evaluation.decision import GateDecision, write_decision
from distil_core.workspace import Workspace
from distil_flows.closing import say_closing

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Iterations 0 to 2, of which the last was not promoted."""
    workspace = Workspace(tmp_path)
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text())
    difference = {"pass_at_1": Difference(0.1, 0.0, 0.2)}
    for number in range(3):
        file = workspace.frozen_params_file(number)
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(settings | {"iteration": number, "stage_versions": {}}))
        workspace.iteration_dir(number).mkdir(parents=True)
        workspace.metrics_file(number).write_text(json.dumps({"pass_at_1": 0.5}))
    for number, promoted in ((1, True), (2, False)):
        write_decision(
            workspace,
            GateDecision(number, promoted, False, 1, 1, 0, 0, "", difference, difference),
        )
    return workspace


def said(workspace: Workspace, iterations: list[int], width: int, pages: str | None = None) -> str:
    screen = io.StringIO()
    say_closing(Console(file=screen, width=width), workspace, iterations, pages)
    return screen.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_champion_and_how_to_load_it(workspace: Workspace, width: int) -> None:
    text = said(workspace, [0, 1, 2], width)
    assert "Champion: policy 001, its weights are in data/iterations/001/policy\n" in text
    assert '  AutoModelForCausalLM.from_pretrained("data/iterations/001/policy")' in text
    assert "distil lineage chain-arithmetic@champion" in text
    assert "adds iteration 3 with the settings of params.yaml" in text
    assert "Prefect" not in text


def test_a_base_alone_is_its_own_champion(workspace: Workspace) -> None:
    assert "Champion: policy 000, its weights are in data/policy-000" in said(workspace, [0], 80)


def test_what_only_some_workspaces_have(workspace: Workspace) -> None:
    assert ".venv" not in said(workspace, [0, 1, 2], 80)
    (workspace.root / ".venv").mkdir()
    text = said(workspace, [0, 1, 2], 80, "http://127.0.0.1:4200")
    assert "source .venv/bin/activate" in text
    assert "its pages, with this run: http://127.0.0.1:4200" in text
