"""Every example below docs/examples as it stands, and its problems and verdicts on small data."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from distil_core.campaign import parse_iteration_params, parse_params
from distil_core.errors import DataError
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, PROBLEMS, ROLLOUTS, RolloutRow
from distil_core.tables.store import read_rows, read_table, write_table
from distil_core.verifiers import VERIFIERS
from distil_core.workspace import Workspace
from distil_tasks import consult, problems

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SYSTEM = "Answer as <reasoning>..</reasoning> and <answer>the letter</answer>."
Rows = list[dict[str, Any]]


def load(name: str) -> dict[str, Any]:
    path = EXAMPLES / f"{name}.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    verifier = values["consult"]["verifier"]["name"]
    if verifier not in VERIFIERS.names():
        pytest.skip(f"there is no verifier {verifier} here")
    return values


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_valid_as_it_stands(path: Path) -> None:
    params = parse_params(load(path.stem), path.name)
    assert params.consult.verify_timeout_s is not None


def test_an_example_stops_until_its_files_are_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the problems in /data/own\.jsonl"):
        run_problems(Workspace(tmp_path), load("own_jsonl"))


def word_problems(count: int) -> Rows:
    return [
        {"question": f"{n} and {n}?", "solution": f"{n}+{n}={2 * n}\n#### {2 * n}", "n": n}
        for n in range(count)
    ]


def choices(count: int) -> Rows:
    return [
        {
            "idx": n,
            "kind": "mcq",
            "system": SYSTEM,
            "prompt": f"Which is {n}?\n\nA: {n}\nB: {n + 1}\nC: {n + 2}\nD: {n + 3}",
            "answer": "A",
        }
        for n in range(count)
    ]


def calls(count: int) -> Rows:
    tools = [{"name": "add", "description": "Adds.", "parameters": {"a": {"type": "int"}}}]
    return [
        {
            "id": n,
            "query": f"Add {n}.",
            "tools": json.dumps(tools),
            "answers": json.dumps([{"name": "add", "arguments": {"a": n}}]),
        }
        for n in range(count)
    ]


def contests(count: int) -> Rows:
    return [
        {
            "question_id": f"q{n}",
            "question_content": f"Read a number and print it plus {n}.",
            "starter_code": "",
            "public_test_cases": json.dumps([{"input": "1\n", "output": f"{1 + n}\n"}]),
            "private_test_cases": json.dumps([{"input": "5\n", "output": f"{5 + n}\n"}]),
            "metadata": "{}",
        }
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("name", "rows", "right", "shown"),
    [
        ("own_jsonl", word_problems, lambda p: p.reference, "and"),
        ("own_parquet", word_problems, lambda p: p.reference, "and"),
        (
            "sciknoweval",
            choices,
            lambda p: f"<reasoning>\nso\n</reasoning>\n<answer>\n{p.reference}\n</answer>",
            SYSTEM,
        ),
        (
            "tool_calls",
            calls,
            lambda p: f"<tool_call>{json.dumps(json.loads(p.reference)[0])}</tool_call>",
            '"name": "add"',
        ),
        (
            "live_code_bench",
            contests,
            lambda p: f"```python\nprint(int(input()) + {p.prompt.split()[-1][:-1]})\n```",
            "Read a number",
        ),
        ("reasoning_gym", None, lambda p: f"<answer>{p.reference}</answer>", "State"),
    ],
)
def test_problems_and_verdicts_of_an_example(
    tmp_path: Path,
    name: str,
    rows: Callable[[int], Rows] | None,
    right: Callable[[Problem], str],
    shown: str,
) -> None:
    values, workspace = load(name), Workspace(tmp_path)
    if rows is None:
        pytest.importorskip("reasoning_gym")
    else:
        use_own_files(values, tmp_path, rows)
    values["problems"] |= {"num_train": 16, "num_eval": 2}
    run_problems(workspace, values)
    _, context = read_table(workspace.problems_dir / "train.parquet", PROBLEMS)
    assert ("found" in context) == (rows is not None)
    if name == "live_code_bench" and not shutil.which("bwrap"):
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


def use_own_files(values: dict[str, Any], folder: Path, rows: Callable[[int], Rows]) -> None:
    """Files in place of the example's, pinned. With one file the split takes what it takes."""
    options, everything = values["problems"]["source"]["options"], rows(100)
    parts = {"train": everything}
    if "eval" in options:
        parts = {"train": everything[:50], "eval": everything[50:]}
    for split, part in parts.items():
        path = folder / Path(options[split]["path"]).name
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(part), path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        options[split] = {"path": str(path), "sha256": digest}


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
