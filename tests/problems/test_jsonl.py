import hashlib
import json
from pathlib import Path

import pytest

from distil_core.errors import DataError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems._rows import RowSource
from distil_core.problems.base import Problem
from distil_core.problems.splits import make_splits

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"


def source(train: Path, eval_: Path, **fields: object) -> RowSource:
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
    overlapping = source(*two_files, on_leak="drop")
    splits = make_splits(overlapping, {"eval": 3, "train": 6, "warm_start": 0}, seed=1)
    assert overlapping.report()["leaks"] == 3
    prompts = [problem.prompt for split in splits.values() for problem in split]
    assert len(set(prompts)) == 9
    problem = splits["train"][0]
    assert json.loads(problem.metadata) == {"n": int(problem.prompt.split()[2])}


def test_the_order_depends_on_the_seed_alone(two_files: tuple[Path, Path]) -> None:
    def prompts(seed: int) -> list[str]:
        pinned = source(*two_files, on_leak="drop")
        return [problem.prompt for problem in pinned.problems("train", seed)]

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
        (b"{not json", "expected a JSON object, found '{not json'"),
        (b'["a list"]', "expected a JSON object"),
        (b'{"question": "torn', "expected a JSON object"),
        (b"[" * 100_000, "expected a JSON object"),
        (b'{"answer": "#### 1"}', "no field 'question'; the row has answer .str."),
        (b'{"question": "1+1?"}', "no field 'answer'"),
        (b'{"question": 7, "answer": "#### 1"}', "must be text that is not blank, found 7"),
        (b'{"question": " ", "answer": "#### 1"}', "must be text that is not blank"),
        (b'{"question": "1+1?", "answer": null}', "expected a reference in 'answer', found None"),
        (b'{"question": "half \\ud800", "answer": "1"}', "surrogates not allowed"),
        ('{"question": "Größe"}'.encode("latin-1"), "not UTF-8 text"),
        ("{}".encode("utf-16"), "not UTF-8 text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'\n{"question": "fine", "answer": "1"}\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"bad\.jsonl, line 3: .*{message}"):
        source(path, path).report()


def test_a_file_of_one_huge_line(tmp_path: Path) -> None:
    path = tmp_path / "array.jsonl"
    path.write_bytes(b"[" + b'{"question": "1", "answer": "2"},' * 2_200_000 + b"]")
    with pytest.raises(DataError, match=r"line 1: 69 MB in one line, expected at most 64"):
        source(path, path).report()


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_no_set_of_problems(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is empty|holds no rows"):
        source(path, path).report()


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    train, eval_ = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    train.write_bytes(b'\xef\xbb\xbf{"question": "1+1?", "answer": "2"}\r\n\r\n')
    write_lines(eval_, {"question": "1+2?", "answer": 3})
    assert list(source(train, eval_).problems("train", 0)) == [Problem("1+1?", "2")]
    assert list(source(train, eval_).problems("eval", 0)) == [Problem("1+2?", "3")]


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


@pytest.mark.skipif(
    not GSM8K.exists(), reason="real SciKnowEval files are not beside this checkout"
)
@pytest.mark.parametrize(
    ("subject", "num_eval", "num_train"), [("chemistry", 210, 1890), ("physics", 80, 720)]
)
def test_sciknoweval_loads_as_it_is(subject: str, num_eval: int, num_train: int) -> None:
    folder = GSM8K.parent / "sciknoweval"
    found = source(
        folder / f"{subject}-train.jsonl",
        folder / f"{subject}-test.jsonl",
        prompt_field=None,
        prompt_template="{system}\n\n{prompt}",
        id_field="idx",
    )
    clean = {"duplicates": 0, "near_duplicates": 0}
    assert found.report() == {
        "eval": {"rows": num_eval, **clean},
        "train": {"rows": num_train, **clean},
        "leaks": 0,
    }
    problem = next(found.problems("eval", 0))
    assert problem.reference in "ABCD"
    assert "<answer>" in problem.prompt
    assert problem.prompt.endswith("Please reason step by step.")
    assert json.loads(problem.metadata)["kind"] == "mcq"
