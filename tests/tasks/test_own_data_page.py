"""docs/own-data.md as it stands: its file, its settings, its digest, its verdicts (10 s)."""

import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from distil_core.campaign.iterations import restart
from distil_core.campaign.load import load_iteration_params
from distil_core.campaign.pins import pin_files, unpinned_files
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import no_progress
from distil_core.verifiers import build_verifier
from distil_core.workspace import Workspace
from distil_tasks import problems

PAGE = Path(__file__).parents[2] / "docs" / "own-data.md"
EMPTY = "iterations: {}\nevaluations: {}\ncurves: {loss: {}, cross_entropy: {}, pass_at_k: {}}\n"


def block(language: str, word: str) -> str:
    """The page's only block in that language that has the word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if word in block)
    return str(found)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "data.jsonl").write_text(block("json", "question"), encoding="utf-8")
    (tmp_path / "params.yaml").write_text(block("yaml", "extends"), encoding="utf-8")
    (tmp_path / "iterations.yaml").write_text(EMPTY)
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


def test_all_problems_of_the_file_are_taken(workspace: Workspace) -> None:
    assert unpinned_files(workspace) == ["data.jsonl"]
    pin_files(workspace)
    assert "# `distil pin` adds its digest" in workspace.params_file.read_text("utf-8")
    restart(workspace, {})
    params = load_iteration_params(workspace, 0)
    problems.body(workspace, params, no_progress)
    rows = [json.loads(line) for line in block("json", "question").splitlines()]
    found = {
        split: {problem.prompt for problem in read_problems(workspace.problems_dir / file)}
        for split, file in (("train", "train.parquet"), ("eval", "eval.parquet"))
    }
    assert found["train"] | found["eval"] == {row["question"] for row in rows}
    assert not found["train"] & found["eval"]
    assert params.gate.margins == {
        "pass_at_1": 0.02,
        f"pass_at_{params.evaluate.num_samples}": 0.03,
    }


def test_each_verdict_of_the_page(workspace: Workspace) -> None:
    pin_files(workspace)
    restart(workspace, {})
    first = {}
    for row in map(json.loads, block("json", "question").splitlines()):
        metadata = {name: row[name] for name in row.keys() - {"question", "answer"}}
        first.setdefault(row["kind"], Problem(row["question"], row["answer"], json.dumps(metadata)))
    rows = re.findall(r"^\| (text|number|date) \| `(.+)` \| (\w+) \|$", PAGE.read_text(), re.M)
    assert len(rows) == 9
    with closing(build_verifier(load_iteration_params(workspace, 0).consult)) as verifier:
        for kind, response, verdict in rows:
            judged = verifier.verify(first[kind], response.replace("⏎", "\n"))
            assert judged.verdict == verdict, (kind, response)
