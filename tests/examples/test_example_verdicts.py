"""Every example as it stands, and the problems and verdicts of each on small data (40 s)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_data import EXAMPLES, ROWS, SYSTEM, example_settings, use_own_files

from distil_core.campaign import parse_iteration_params
from distil_core.campaign.load import load_params_file
from distil_core.errors import DataError
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, PROBLEMS, ROLLOUTS, RolloutRow
from distil_core.tables.store import read_rows, read_table, write_table
from distil_core.workspace import Workspace
from distil_tasks import consult, problems

PARAMS = sorted(EXAMPLES.glob("*/params.yaml"))


@pytest.mark.parametrize("path", PARAMS, ids=lambda path: path.parent.name)
def test_an_example_is_valid_as_it_stands_and_short(path: Path) -> None:
    params = load_params_file(path)
    assert params.campaign
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "\nextends: " in text
    assert len(text.splitlines()) <= 20


@pytest.mark.parametrize("path", PARAMS, ids=lambda path: path.parent.name)
def test_an_example_says_how_it_is_started(path: Path) -> None:
    text = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"--from examples/{path.parent.name}/params.yaml" in text
    assert len(text.splitlines()) <= 20


def test_an_example_stops_until_its_files_are_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the problems in /data/own\.jsonl"):
        run_problems(Workspace(tmp_path), example_settings("own-jsonl"))


@pytest.mark.parametrize(
    ("name", "right", "shown"),
    [
        ("own-jsonl", lambda p: p.reference, "and"),
        ("own-parquet", lambda p: p.reference, "and"),
        (
            "science-questions",
            lambda p: f"<reasoning>\nso\n</reasoning>\n<answer>\n{p.reference}\n</answer>",
            SYSTEM,
        ),
        (
            "tool-calls",
            lambda p: f"<tool_call>{json.dumps(json.loads(p.reference)[0])}</tool_call>",
            '"name": "add"',
        ),
        (
            "live-code-bench",
            lambda p: f"```python\nprint(int(input()) + {p.prompt.split()[-1][:-1]})\n```",
            "Read a number",
        ),
        ("reasoning-gym", lambda p: f"<answer>{p.reference}</answer>", "State"),
    ],
)
def test_problems_and_verdicts_of_an_example(
    tmp_path: Path, name: str, right: Callable[[Problem], str], shown: str
) -> None:
    values, workspace = example_settings(name), Workspace(tmp_path)
    rows = ROWS.get(name)
    if rows is None:
        pytest.importorskip("reasoning_gym")
    else:
        use_own_files(values, tmp_path, rows)
    values["problems"] |= {"num_train": 16, "num_eval": 2}
    run_problems(workspace, values)
    _, context = read_table(workspace.problems_dir / "train.parquet", PROBLEMS)
    assert ("found" in context) == (rows is not None)
    if name == "live-code-bench" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    train = read_problems(workspace.problems_dir / "train.parquet")
    held_out = read_problems(workspace.problems_dir / "eval.parquet")
    assert (len(train), len(held_out)) == (16, 2)
    assert all(shown in problem.prompt for problem in train)
    answers = [right(problem) for problem in train]
    write_rollouts(workspace, train, [*answers[:8], *("none",) * 8])
    consult.body(workspace, iteration_params(values), no_progress)
    verdicts = [row.verdict for row in read_rows(workspace.consultations_file(1), CONSULTATIONS)]
    assert verdicts[:8] == ["correct"] * 8
    assert set(verdicts[8:]) <= {"malformed", "wrong"}


def iteration_params(values: dict[str, Any]) -> Any:
    sizes = {"num_prompts": 8, "num_rollouts": 2}
    values["sample"] |= sizes
    values["train"] |= {"batch_rollouts": 8}
    values["verification"] = {"num_workers": 2}
    return parse_iteration_params({**values, "iteration": 1, "stage_versions": {}}, "test")


def run_problems(workspace: Workspace, values: dict[str, Any]) -> None:
    problems.body(workspace, iteration_params(values), no_progress)


def write_rollouts(workspace: Workspace, asked: list[Problem], responses: list[str]) -> None:
    rows = [
        RolloutRow(
            rollout_id=f"001/{problem.problem_id}/0",
            problem_id=problem.problem_id,
            sample_index=0,
            seed=1,
            context_ids=[1],
            response_ids=[1],
            behaviour_logprobs=[0.0],
            finish_reason="stop",
            response=response,
            error=None,
        )
        for problem, response in zip(asked, responses, strict=True)
    ]
    write_table(workspace.rollouts_file(1), ROLLOUTS, rows, {})
