"""References that the campaign's verifier cannot read are all named before anything is sampled."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_jsonl import write_lines
from test_row_fields import pinned

from distil_core.campaign.load import parse_iteration_params
from distil_core.config.models import IterationParams
from distil_core.errors import DataError
from distil_core.problems.store import read_problems
from distil_core.progress import no_progress
from distil_core.tables.schemas import PROBLEMS
from distil_core.tables.store import read_table
from distil_core.workspace import Workspace
from distil_tasks import problems

PROJECT = Path(__file__).parents[2]


def params(source: dict[str, Any], verifier: dict[str, Any]) -> IterationParams:
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["problems"] |= {
        "source": source,
        "num_warm_start": 0,
        "num_train": 4,
        "num_eval": 2,
        "generalisation": None,
    }
    values["base"] = {"kind": "pretrained", "path_or_id": "some/folder"}
    values["sample"] |= {"num_prompts": 2}
    values["train"] |= {"batch_rollouts": 4}
    values["consult"]["verifier"] = verifier
    return parse_iteration_params({**values, "iteration": 0, "stage_versions": {}}, "000.yaml")


def stored(path: Path, **options: Any) -> dict[str, Any]:
    named = {
        "prompt_field": "q",
        "reference_field": "a",
        "eval_fraction": 0.3,
        "metadata_fields": [],
    }
    return {"name": "jsonl", "options": {"train": pinned(path), **named, **options}}


def rows(num_rows: int, is_bad: Any) -> list[dict[str, str]]:
    return [{"q": f"q{n}", "a": "to be found" if is_bad(n) else str(n)} for n in range(num_rows)]


NUMBERS = {"name": "final_number", "options": {}}


def test_all_are_named_also_those_that_no_split_would_hold(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", *rows(120, lambda n: n % 2))
    with pytest.raises(DataError) as caught:
        problems.body(Workspace(tmp_path), params(stored(path), NUMBERS), no_progress)
    text = str(caught.value)
    assert "60 of 120 problems" in text
    for line in range(2, 41, 2):
        assert f"rows.jsonl, line {line}:" in text
    assert "line 42" not in text
    assert "and 40 more" in text
    assert "on_unreadable: drop" in text
    assert not (tmp_path / "data").exists()


def test_or_dropped_and_counted(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", *rows(60, lambda n: n % 2))
    settings = params(stored(path, on_unreadable="drop"), NUMBERS)
    workspace = Workspace(tmp_path)
    problems.body(workspace, settings, no_progress)
    for split in ("train", "eval"):
        file = workspace.problems_dir / f"{split}.parquet"
        assert all(int(problem.reference) % 2 == 0 for problem in read_problems(file))
        assert read_table(file, PROBLEMS)[1]["found"]["unreadable"] == 30


def test_metadata_is_read_as_well(tmp_path: Path) -> None:
    tools = [{"name": "f", "parameters": {"x": {"type": "int"}}}]
    lines = [
        {"q": f"q{n}", "a": "[]", "tools": json.dumps(tools) if n != 7 else "none"}
        for n in range(20)
    ]
    path = write_lines(tmp_path / "rows.jsonl", *lines)
    settings = params(
        stored(path, metadata_fields=["tools"]), {"name": "tool_calls", "options": {}}
    )
    with pytest.raises(DataError, match=r"^1 of 20 problems .*\n  .*rows\.jsonl, line 8: .*tools"):
        problems.body(Workspace(tmp_path), settings, no_progress)


def test_generated_problems_of_another_verifier(tmp_path: Path) -> None:
    source = {
        "name": "chain_arithmetic",
        "options": {"num_operations": 3, "modulus": 7, "demonstrator_slip_probability": 0},
    }
    other = {"name": "chain_arithmetic", "options": {"modulus": 5}}
    with pytest.raises(
        DataError, match=r"cannot read \d of the problems .*\n  (eval|train), problem"
    ):
        problems.body(Workspace(tmp_path), params(source, other), no_progress)
