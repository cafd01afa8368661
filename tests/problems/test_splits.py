"""Splits are disjoint, in a fixed order, and refused when there are not enough problems (1 s)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import DataError
from distil_core.problems.base import Problem
from distil_core.problems.chain_arithmetic import ChainArithmetic, Options
from distil_core.problems.splits import SPLITS, SplitSize, make_splits
from distil_core.problems.store import read_problems, write_problems

CHAINS = ChainArithmetic(
    Options(num_operations=2, modulus=5, demonstrator_slip_probability=0.5)
)  # 500 different ones

sizes = st.fixed_dictionaries(
    {"eval": st.integers(0, 60), "train": st.integers(0, 100), "warm_start": st.integers(0, 80)}
)


class Dataset:
    """A source that ends, and gives the same problems to all splits."""

    def __init__(self, prompts: list[str]):
        self._prompts = prompts

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        return (Problem(prompt, "answer") for prompt in self._prompts)

    def alphabet(self) -> str:
        return ""


@given(sizes, st.integers(0, 2**63 - 1))
def test_no_problem_appears_twice(sizes: dict[str, int], seed: int) -> None:
    splits = make_splits(CHAINS, sizes, seed)
    assert {split: len(problems) for split, problems in splits.items()} == sizes
    prompts = [problem.prompt for problems in splits.values() for problem in problems]
    assert len(set(prompts)) == len(prompts)
    ids = {problem.problem_id for problems in splits.values() for problem in problems}
    assert len(ids) == len(prompts)
    assert splits == make_splits(CHAINS, sizes, seed)


@given(sizes, sizes)
def test_the_held_out_problems_do_not_depend_on_the_other_sizes(
    first: dict[str, int], second: dict[str, int]
) -> None:
    """So a larger training set is compared on the same problems as a smaller one."""
    second["eval"] = first["eval"]
    one, other = make_splits(CHAINS, first, 9), make_splits(CHAINS, second, 9)
    assert one["eval"] == other["eval"]
    shared = min(first["train"], second["train"])
    assert one["train"][:shared] == other["train"][:shared]


def test_all_of_a_small_space_can_be_used() -> None:
    tiny = ChainArithmetic(
        Options(num_operations=1, modulus=3, demonstrator_slip_probability=0)
    )  # 18 chains
    splits = make_splits(tiny, {"eval": 6, "train": 6, "warm_start": 6}, 1)
    assert len({p.prompt for problems in splits.values() for p in problems}) == 18


@pytest.mark.parametrize(
    ("source", "sizes", "found"),
    [
        (CHAINS, {"eval": 100, "train": 200, "warm_start": 201}, "200 problems .*'warm_start'"),
        (CHAINS, {"eval": 501, "train": 1, "warm_start": 0}, "500 problems .*'eval'"),
        (Dataset(list("aabbc")), {"eval": 2, "train": 2, "warm_start": 0}, "1 problems .*'train'"),
        (Dataset([]), {"eval": 1, "train": 1, "warm_start": 0}, "0 problems .*'eval'"),
    ],
)
def test_too_few_problems(
    source: ChainArithmetic | Dataset, sizes: dict[str, int], found: str
) -> None:
    with pytest.raises(DataError, match=rf"gave {found}.* expected .*params\.yaml \(problems\)"):
        make_splits(source, sizes, 1)


class StoredDataset(Dataset):
    """The same with rows in files."""

    def require_readable(self, check_problem: Callable[[Problem], None]) -> None:
        for problem in self.problems("train", 0):
            check_problem(problem)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"eval": 2, "train": "all", "warm_start": 0}, {"eval": 2, "train": 3, "warm_start": 0}),
        ({"eval": "all", "train": 0, "warm_start": 0}, {"eval": 5, "train": 0, "warm_start": 0}),
    ],
)
def test_all_that_there_are(sizes: dict[str, SplitSize], expected: dict[str, int]) -> None:
    splits = make_splits(StoredDataset(list("aabcdbe")), sizes, 1)
    assert {split: len(problems) for split, problems in splits.items()} == expected
    prompts = [problem.prompt for problems in splits.values() for problem in problems]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("source", [CHAINS, StoredDataset([])])
def test_all_of_none_or_of_what_has_no_end(source: ChainArithmetic | Dataset) -> None:
    expected = "problems without end: say how many|no problem for split 'train'"
    with pytest.raises(DataError, match=expected):
        make_splits(source, {"eval": 0, "train": "all", "warm_start": 0}, 1)


def test_held_out_problems_are_chosen_first() -> None:
    assert SPLITS[0] == "eval"


def test_problems_survive_their_table(tmp_path: Path) -> None:
    problems = [Problem("1+1=", "2", '{"level": 1}'), Problem("é\n{x}", "", "{}")]
    write_problems(tmp_path / "train.parquet", problems, {"seed": 1})
    assert read_problems(tmp_path / "train.parquet") == problems


def test_an_empty_split_is_refused_when_it_is_read(tmp_path: Path) -> None:
    write_problems(tmp_path / "warm_start.parquet", [], {})
    with pytest.raises(DataError, match=r"warm_start\.parquet has no rows"):
        read_problems(tmp_path / "warm_start.parquet")


def test_equal_prompts_have_equal_ids() -> None:
    one, other = Problem("1+1=", "2"), Problem("1+1=", "3", '{"a": 1}')
    assert one.problem_id == other.problem_id == "9ffe8627f3749018"
    assert Problem("1+2=", "3").problem_id != one.problem_id
