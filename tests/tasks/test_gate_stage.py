"""The gate's stage on evaluations made up for it: what it writes under each policy (1 s)."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign.chain import expert_dependency, expert_policy_dir
from distil_core.campaign.load import parse_iteration_params
from distil_core.config.models import Component, IterationParams
from distil_core.errors import GateError
from distil_core.evaluation.decision import read_decision
from distil_core.progress import no_progress
from distil_core.tables.schemas import EVALUATION
from distil_core.tables.store import read_table, write_table
from distil_core.workspace import Workspace
from distil_tasks import gate, sample

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from evaluation_rows import row

PROJECT = Path(__file__).parents[2]


def params(iteration: int, on_regression: str, **gate_settings: Any) -> IterationParams:
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["evaluate"] |= {"num_samples": 4, "num_bootstrap": 200}
    values["gate"] |= {"margins": {"pass_at_1": 0.02}, "on_regression": on_regression}
    values["gate"] |= gate_settings
    return parse_iteration_params(
        {**values, "iteration": iteration, "stage_versions": {}}, f"{iteration}.yaml"
    )


def evaluated(
    workspace: Workspace, iteration: int, num_correct: int, temperature: float = 1.0
) -> None:
    """A policy that is right on `num_correct` of four samples of each of 40 problems."""
    rows = [
        row(
            min(4, num_correct + index % 2),
            problem_id=f"{index:03d}",
            majority_correct=float(num_correct > 2),
        )
        for index in range(40)
    ]
    path = workspace.evaluation_file(iteration)
    settings = {"temperature": temperature, "top_p": 1.0, "max_new_tokens": 8}
    write_table(path, EVALUATION, rows, {"iteration": iteration, "evaluate": settings})
    policy_dir = workspace.policy_dir(iteration)
    policy_dir.mkdir(parents=True, exist_ok=True)
    (policy_dir / "weights").write_text(f"policy {iteration}")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Policy 1 gains, policy 2 loses, policy 3 gains on policy 2 but not on policy 1."""
    workspace = Workspace(tmp_path)
    for iteration, num_correct in enumerate((1, 3, 0, 2)):
        evaluated(workspace, iteration, num_correct)
    return workspace


def run(
    workspace: Workspace, on_regression: str, iterations: int = 3, **gate_settings: Any
) -> list[dict[str, Any]]:
    found = []
    for iteration in range(1, iterations + 1):
        settings = params(iteration, on_regression, **gate_settings)
        gate.body(workspace, settings, no_progress)
        decision = read_decision(workspace, iteration)
        weights = workspace.handover_dir(iteration) / "weights"
        found.append(
            {
                "promoted": decision.promoted,
                "champion": decision.champion,
                "parent": decision.parent,
                "handed_over": decision.handed_over,
                "weights": weights.read_text() if weights.exists() else None,
                "references": tuple(
                    read_table(file, EVALUATION)[1]["iteration"]
                    for file in (
                        workspace.champion_evaluation_file(iteration),
                        workspace.handover_evaluation_file(iteration),
                    )
                ),
            }
        )
    return found


def test_keep_goes_on_from_where_the_iteration_started(workspace: Workspace) -> None:
    first, second, third = run(workspace, "keep")
    assert first == {
        "promoted": True,
        "champion": 1,
        "parent": 0,
        "handed_over": 1,
        "weights": "policy 1",
        "references": (1, 1),
    }
    kept = {"promoted": False, "champion": 1, "parent": 1, "handed_over": 1}
    assert second == third == {**kept, "weights": "policy 1", "references": (1, 1)}
    reasons = read_decision(workspace, 2).reasons
    assert reasons.startswith("pass_at_1 is worse by more than the margin: -0.750")
    assert "alarm: fewer problems" in reasons


def test_continue_goes_on_and_still_compares_with_the_champion(workspace: Workspace) -> None:
    _, second, third = run(workspace, "continue")
    assert (second["champion"], second["handed_over"], second["weights"]) == (1, 2, "policy 2")
    assert second["references"] == (1, 2)
    # Better than its parent, which is not enough: the champion was better still.
    assert (third["promoted"], third["parent"], third["champion"]) == (False, 2, 1)
    decision = read_decision(workspace, 3)
    assert decision.from_parent["pass_at_1"].low > 0 > decision.from_champion["pass_at_1"].high
    assert decision.compared_with == 1


def test_stop_lets_nothing_start_from_there(workspace: Workspace) -> None:
    _, second = run(workspace, "stop", iterations=2)
    assert second["weights"] is None
    assert json.loads(workspace.decision_file(2).read_text())["stopped"] == 1
    with pytest.raises(GateError, match=r"gate of iteration 2 ended the campaign: pass_at_1 is"):
        sample.body(workspace, params(3, "stop"), no_progress)


def test_a_policy_evaluated_with_another_sampler_is_not_promoted(workspace: Workspace) -> None:
    """However good: a lower temperature alone makes pass@1 better."""
    evaluated(workspace, 1, 3, temperature=0.2)
    first, _, third = run(workspace, "keep")
    assert (first["promoted"], first["champion"]) == (False, 0)
    assert "(temperature 0.2 instead of 1.0)" in read_decision(workspace, 1).reasons
    assert (third["promoted"], third["champion"]) == (True, 3)


def test_the_champion_comes_along_where_another_policy_is_handed_over(
    workspace: Workspace,
) -> None:
    """Policy 1 is promoted, 2 and 3 are not, 4 is."""
    evaluated(workspace, 4, 4)
    (workspace.policy_dir(1) / "average").mkdir()
    (workspace.policy_dir(1) / "average" / "weights").touch()
    run(workspace, "continue", 4, keep_champion=True)
    expert = Component(name="self", options={"weights": "champion", "batch_size": 1})

    def read(iteration: int) -> tuple[str, str]:
        folder = expert_policy_dir(workspace, iteration, expert)
        return (folder / "weights").read_text(), expert_dependency(workspace, iteration, expert)

    assert read(1) == ("policy 0", "data/policy-000")
    assert read(2) == ("policy 1", "data/iterations/001/handover")
    # What DVC watches is the folder in which the champion lies.
    assert read(3) == ("policy 1", "data/iterations/002/handover")
    assert read(4) == ("policy 1", "data/iterations/003/handover")
    assert read(5) == ("policy 4", "data/iterations/004/handover")
    champion = workspace.handover_dir(3) / "champion"
    assert sorted(path.name for path in champion.iterdir()) == ["weights"]
    assert (workspace.handover_dir(3) / "weights").read_text() == "policy 3"
    # Without it, or where nothing else is handed over, there is no such folder.
    for on_regression, kept in (("continue", False), ("keep", True)):
        run(workspace, on_regression, 4, keep_champion=kept)
        assert not list(workspace.root.rglob("champion"))
    assert read(4) == ("policy 1", "data/iterations/003/handover")


def test_a_champion_that_was_not_kept_is_not_made_up(workspace: Workspace) -> None:
    run(workspace, "continue", 2)
    with pytest.raises(GateError, match="the champion, policy 1, did not come along with policy 2"):
        gate.body(workspace, params(3, "continue", keep_champion=True), no_progress)


def test_a_champion_that_came_along_stays_where_the_next_one_is_kept(
    workspace: Workspace,
) -> None:
    run(workspace, "continue", 2, keep_champion=True)
    gate.body(workspace, params(3, "keep"), no_progress)
    assert (workspace.parent_champion_dir(4) / "weights").read_text() == "policy 1"
    assert (workspace.parent_dir(4) / "weights").read_text() == "policy 2"


def test_a_gate_that_keeps_none_is_frozen_as_ever() -> None:
    assert "keep_champion" not in params(1, "keep").model_dump(mode="json")["gate"]
    kept = params(1, "keep", keep_champion=True).model_dump(mode="json")["gate"]
    assert kept["keep_champion"] is True


def test_twice_the_same_bytes(workspace: Workspace) -> None:
    def files() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in workspace.root.rglob("*") if p.is_file()}

    run(workspace, "keep")
    first = files()
    run(workspace, "keep")
    assert files() == first
