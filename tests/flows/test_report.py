"""The table at the end of a run, and an iteration's page in Prefect. Quick."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from distil_core.evaluation.better_expert import ExpertGain
from distil_core.evaluation.comparison import Difference
from distil_core.evaluation.decision import GateDecision, write_decision
from distil_core.lineage.dvc.stage import StageOutcome
from distil_core.workspace import Workspace
from distil_flows.report import campaign_table, iteration_page

MORE = {"truncation_rate": 0.125, "malformed_rate": 0.26, "expert_gain": -0.2}


def _metrics(pass_at_1: float) -> dict[str, float]:
    metrics = {"num_problems": 512, "num_samples": 8, "response_tokens_mean": 6.02}
    for k, value in ((1, pass_at_1), (2, 0.8), (4, 0.85), (8, 0.9)):
        metrics |= {
            f"pass_at_{k}": value,
            f"pass_at_{k}_low": value - 0.02,
            f"pass_at_{k}_high": value + 0.02,
        }
    return metrics


def _write_metrics(workspace: Workspace, *metrics: dict[str, float]) -> None:
    """Of iterations 0, 1, .."""
    for iteration, values in enumerate(metrics):
        path = workspace.metrics_file(iteration)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))


def _expert(gain: Difference) -> ExpertGain:
    return ExpertGain(40, Difference(0.02, 0.0, 0.05), Difference(0.1, 0.05, 0.15), gain)


def test_an_expert_that_is_not_better_is_said_first() -> None:
    decision = _decision(True)
    worse = _expert(Difference(-0.08, -0.12, -0.03))
    page = iteration_page(1, [], {}, {}, replace(decision, expert=worse), [], worse)
    first = page.splitlines()[2]
    assert first.startswith("> \U0001f534 **ALARM: the expert is not better than the student: ")
    assert "0.020 [0.000, 0.050] of the time" in first
    assert "-0.080 [-0.120, -0.030]" in first
    assert "Of that policy, the expert is not better" in page
    better = _expert(Difference(0.08, 0.03, 0.12))
    assert "ALARM" not in iteration_page(1, [], {}, {}, decision, [], better)


def _decision(promoted: bool, stopped: bool = False) -> GateDecision:
    differences = {"pass_at_1": Difference(0.15, 0.1, 0.2)}
    return GateDecision(
        iteration=1,
        promoted=promoted,
        stopped=stopped,
        champion=int(promoted),
        handed_over=int(promoted),
        parent=0,
        compared_with=0,
        reasons="" if promoted else "responses grew",
        from_champion=differences,
        from_parent=differences,
    )


def _printed(workspace: Workspace, iterations: list[int], width: int = 80) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=width).print(campaign_table(workspace, iterations, width))
    return [" ".join(line.split()) for line in screen.getvalue().splitlines()]


def test_table_shows_least_and_most_k_and_fits_a_terminal(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    _write_metrics(workspace, _metrics(0.25), _metrics(0.4))
    write_decision(workspace, _decision(promoted=True))
    timings = workspace.timings_file(1)
    timings.parent.mkdir(parents=True)
    timings.write_text(json.dumps({"sample": 1.5, "train": 3.0}))
    lines = _printed(workspace, [0, 1, 2])
    assert "iteration pass@1 pass@8 gate seconds" in lines
    assert "0 0.250 [0.230, 0.270] 0.900 [0.880, 0.920] -" in lines
    assert "1 0.400 [0.380, 0.420] 0.900 [0.880, 0.920] promoted 4.5" in lines
    assert not [line for line in lines if line.startswith("2 ")]


def test_table_shows_what_pass_at_k_hides(tmp_path: Path) -> None:
    """Cut and malformed responses and the expert's gain, whether or not each iteration has them."""
    workspace = Workspace(tmp_path)
    _write_metrics(workspace, _metrics(0.25), _metrics(0.2) | MORE)
    lines = _printed(workspace, [0, 1], width=120)
    assert "iteration pass@1 pass@8 cut malformed expert gain gate seconds" in lines
    assert "0 0.250 [0.230, 0.270] 0.900 [0.880, 0.920] - - - -" in lines
    assert "1 0.200 [0.180, 0.220] 0.900 [0.880, 0.920] 12.5% 26.0% -0.200 -" in lines
    narrow = {
        100: "1 0.200 0.900 12.5% 26.0% -0.200 -",
        72: "1 0.200 0.900 12.5% 26.0% -0.200",
        60: "1 0.200 0.900 12.5% -0.200",
        48: "1 0.200 0.900 12.5%",
    }
    for width, expected in narrow.items():
        assert expected in _printed(workspace, [0, 1], width)


@pytest.mark.parametrize(
    ("promoted", "stopped", "words"),
    [(True, False, "promoted"), (False, False, "not promoted"), (False, True, "stopped")],
)
def test_the_verdict_is_in_the_words_of_the_report_and_stays_on_a_narrow_screen(
    tmp_path: Path, promoted: bool, stopped: bool, words: str
) -> None:
    workspace = Workspace(tmp_path)
    _write_metrics(workspace, _metrics(0.25) | MORE, _metrics(0.25) | MORE)
    write_decision(workspace, _decision(promoted, stopped))
    assert any(line.endswith(words) for line in _printed(workspace, [0, 1], width=60))


def test_table_of_a_campaign_that_has_nothing_yet(tmp_path: Path) -> None:
    assert "iteration gate seconds" in _printed(Workspace(tmp_path), [0, 1])


def test_page_compares_with_the_parent_and_names_the_outputs() -> None:
    outcome = StageOutcome("train@001", "ran", 4.04, {"data/x": "0123456789abcdef"})
    page = iteration_page(1, [outcome], _metrics(0.4), _metrics(0.25))
    assert "| pass_at_1 | 0.400 | [0.380, 0.420] | 0.250 | +0.150 |" in page
    assert "| train@001 | ran | 4.0 | data/x 01234567 |" in page
    assert "| pass_at_1 | 0.400 | [0.380, 0.420] | - | - |" in iteration_page(
        0, [outcome], _metrics(0.4), {}
    )


def test_page_tells_what_the_gate_decided() -> None:
    page = iteration_page(1, [], _metrics(0.4), _metrics(0.25), _decision(promoted=True))
    assert "Promoted to champion. pass@1 on the same problems, against policy 0: +0.150" in page
    page = iteration_page(1, [], _metrics(0.4), _metrics(0.25), _decision(promoted=False))
    assert "Not promoted: responses grew." in page
    assert "starts from policy 0." in page
