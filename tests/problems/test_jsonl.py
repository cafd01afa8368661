import hashlib
import json
from pathlib import Path

import pytest

from distil_core.errors import DataError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import ProblemSource
from distil_core.problems.splits import make_splits

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"


def source(train: Path, eval_: Path, **fields: str) -> ProblemSource:
    files = {
        split: {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for split, path in (("train", train), ("eval", eval_))
    }
    options = {"prompt_field": "question", "reference_field": "answer", **files, **fields}
    return PROBLEM_SOURCES.build("jsonl", options)


def write_lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path]:
    rows = [
        {"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}", "n": n} for n in range(9)
    ]
    return write_lines(tmp_path / "a.jsonl", *rows), write_lines(tmp_path / "b.jsonl", *rows[:3])


def test_splits_are_disjoint_even_where_the_files_overlap(two_files: tuple[Path, Path]) -> None:
    splits = make_splits(source(*two_files), {"eval": 3, "train": 6, "warm_start": 0}, seed=1)
    prompts = [problem.prompt for split in splits.values() for problem in split]
    assert len(set(prompts)) == 9
    problem = splits["train"][0]
    assert json.loads(problem.metadata) == {"n": int(problem.prompt.split()[2])}


def test_the_order_depends_on_the_seed_alone(two_files: tuple[Path, Path]) -> None:
    def prompts(seed: int) -> list[str]:
        return [problem.prompt for problem in source(*two_files).problems("train", seed)]

    assert prompts(1) == prompts(1)
    assert prompts(1) != prompts(2)


def test_other_bytes_than_the_settings_pin_are_refused(two_files: tuple[Path, Path]) -> None:
    pinned = source(*two_files)
    two_files[0].write_text('{"question": "new", "answer": "#### 1"}\n', encoding="utf-8")
    found = hashlib.sha256(two_files[0].read_bytes()).hexdigest()
    with pytest.raises(DataError, match=found):
        next(pinned.problems("train", 1))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "expected a JSON object"),
        ('["a list"]', "expected a JSON object"),
        ('{"answer": "#### 1"}', "KeyError"),
        ('{"question": 7, "answer": "#### 1"}', "must be text, found 7"),
        ('{"question": "", "answer": "#### 1"}', "must be text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"bad\.jsonl, line 1: .*{message}"):
        list(source(path, path).problems("train", 0))


def test_a_missing_file_is_named(two_files: tuple[Path, Path]) -> None:
    pinned = source(*two_files)
    two_files[1].unlink()
    with pytest.raises(DataError, match=r"cannot read the problems in .*b\.jsonl"):
        next(pinned.problems("eval", 0))


@pytest.mark.skipif(not GSM8K.exists(), reason="real GSM8K files are not beside this checkout")
def test_gsm8k_loads_as_it_is() -> None:
    splits = make_splits(
        source(GSM8K / "train.jsonl", GSM8K / "test.jsonl"),
        {"eval": 400, "train": 1500, "warm_start": 0},
        seed=0,
    )
    assert {name: len(split) for name, split in splits.items()} == {
        "eval": 400,
        "train": 1500,
        "warm_start": 0,
    }
