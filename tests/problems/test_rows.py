"""Rows of any file as problems: fields, duplicates, contradictions, leaks, splits by hash."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import ConfigError, DataError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems._row_options import RowOptions
from distil_core.problems._rows import LocatedRow, RowSource, normalised
from distil_core.problems.splits import make_splits
from distil_core.registry import ComponentOptions

Rows = list[dict[str, Any]]


class TwoParts(RowOptions):
    eval: str | None = "there"

    @property
    def has_eval_file(self) -> bool:
        return self.eval is not None


def source(train: Rows, eval_: Rows | None = None, **options: Any) -> RowSource:
    def read_rows(split: str) -> Iterator[LocatedRow]:
        rows = eval_ if split == "eval" else train
        assert rows is not None
        return ((f"{split} row {number}", row) for number, row in enumerate(rows, start=1))

    named = {"reference_field": "a", **options}
    if "prompt_template" not in named:
        named |= {"prompt_field": "q"}
    if eval_ is None:
        named |= {"eval": None, "eval_fraction": options.get("eval_fraction", 0.3)}
    return RowSource(TwoParts(**named), read_rows)


def row(question: str, answer: Any = "1", **fields: Any) -> dict[str, Any]:
    return {"q": question, "a": answer, **fields}


def prompts(found: RowSource, split: str) -> set[str]:
    return {problem.prompt for problem in found.problems(split, 0)}


def test_repetitions_count_once_and_are_said() -> None:
    found = source([row("How many?"), row("How many?", n=2), row("how  MANY")], [row("Other?")])
    assert prompts(found, "train") == {"How many?", "how  MANY"}
    assert found.report() == {
        "eval": {"rows": 1, "duplicates": 0, "near_duplicates": 0},
        "train": {"rows": 3, "duplicates": 1, "near_duplicates": 1},
        "leaks": 0,
    }


@pytest.mark.parametrize("leaked", ["What is 2?", "what is\n2", "«What is 2»?"])
def test_a_leak_is_refused_or_dropped(leaked: str) -> None:
    train, eval_ = [row("Fine"), row(leaked.strip("«").replace("»", ""))], [row("What is 2?")]
    with pytest.raises(DataError, match=r"1 training problems .*train row 2, which .*eval row 1"):
        source(train, eval_).report()
    found = source(train, eval_, on_leak="drop")
    assert prompts(found, "train") == {"Fine"}
    assert found.report()["leaks"] == 1


def test_different_formulas_are_no_duplicates() -> None:
    texts = ["2+3", "2-3", "2.5", "25", "1,000", "1000", "x²", "x2", "(a)b", "ab", "$5", "5%", "5"]
    assert len({normalised(text) for text in texts}) == len(texts)
    assert normalised("Tom’s  dog, Rex.") == normalised("tom's dog Rex") == "tom s dog rex"


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        ([row("Q", "1"), row("Q", "2")], {}, "train row 2: the prompt is that of train row 1"),
        ([row("Z", "2")], {}, "train row 1: the prompt is that of eval row 1"),
        ([row("Q", n=1), row("R", n=1)], {"id_field": "n"}, "the id '1' is that of train row 1"),
        ([row("Q", n=0)], {"id_field": "n"}, "the id '0' is that of eval row 1"),
        ([row("Q")], {"id_field": "n"}, "expected 'n' .* found None"),
        ([row("Q", n=1, b=b"x")], {}, "metadata cannot be kept as JSON .*bytes.* metadata_fields"),
        ([row("Q", n=1, b=b"x")], {"metadata_fields": ["m"]}, "no field 'm'; the row has q"),
    ],
)
def test_contradictions_and_bad_rows_are_named(
    train: Rows, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        source(train, [row("Z", n=0, m=1)], **options).report()


def test_a_task_that_is_judged_by_tests_may_have_several_references() -> None:
    tests = [{"code": "assert f(1) == 2"}]
    train = [row("Q", "a = 1", tests=tests), row("Q", "a = 2", tests=tests), row("R", tests=tests)]
    found = source(train, [row("Z", tests=tests)])
    assert prompts(found, "train") == {"Q", "R"}
    assert {one.reference for one in found.problems("train", 1) if one.prompt == "Q"} == {"a = 1"}
    with pytest.raises(DataError, match="the reference differs"):
        source([row("Q", "1", tests=tests), row("Q", "2", tests=[])], [row("Z", tests=[])]).report()


def test_a_template_makes_the_prompt_of_several_fields() -> None:
    found = source(
        [row("{q}", s="Be short.", tools=[{"name": "f"}])],
        [row("other", s="", tools=[])],
        prompt_template="{s} {q} {{}} {tools}",
    )
    assert prompts(found, "train") == {'Be short. {q} {} [{"name": "f"}]'}
    assert prompts(found, "eval") == {"other {}"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of prompt_field, prompt_template and row_format"),
        ({"prompt_field": "q"}, "expected reference_field"),
        (
            {"prompt_field": "q", "prompt_template": "{q}", "reference_field": "a"},
            "expected one of",
        ),
        ({"prompt_template": "{q} {a}", "reference_field": "a"}, "other than the reference 'a'"),
        ({"prompt_template": "{q", "reference_field": "a"}, "write a literal brace twice"),
        ({"prompt_template": "{q!r}", "reference_field": "a"}, "expected plain fields"),
        (
            {"row_format": "human_eval", "reference_field": "a"},
            "takes the place of reference_field",
        ),
        (
            {"prompt_field": "q", "reference_field": "a", "eval_fraction": 0.1},
            "expected one of eval",
        ),
    ],
)
def test_settings_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    file = {"path": "a.jsonl", "sha256": ""}
    with pytest.raises(ConfigError, match=message):
        PROBLEM_SOURCES.options("jsonl", {"train": file, "eval": file, **options})
    assert issubclass(RowOptions, ComponentOptions)


@given(st.sets(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=1, max_size=40))
def test_a_split_by_hash_parts_all_problems_whatever_else_is_in_the_file(texts: set[str]) -> None:
    ordered = sorted(texts)
    splits = {split: prompts(source([*map(row, ordered)]), split) for split in ("eval", "train")}
    assert splits["eval"] | splits["train"] == texts
    assert not splits["eval"] & splits["train"]
    fewer = source([*map(row, ordered[::2])])
    assert prompts(fewer, "eval") == splits["eval"] & set(ordered[::2])


def test_near_duplicates_fall_on_one_side_of_a_split_by_hash() -> None:
    rows = [row(f"How many, {n}?") for n in range(300)] + [row(f"how many {n}") for n in range(300)]
    found = source(rows, eval_fraction=0.3)
    assert found.report()["leaks"] == 0
    assert 60 <= len(prompts(found, "eval")) // 2 <= 120
    splits = make_splits(found, {"eval": 100, "train": 300, "warm_start": 50}, seed=1)
    assert len({problem.prompt for part in splits.values() for problem in part}) == 450


def test_ids_decide_a_split_by_hash_and_leaks_are_still_found() -> None:
    rows = [row(f"The same but for {'!' * n}", i=n) for n in range(1, 60)]
    with pytest.raises(DataError, match="training problems are also eval problems"):
        source(rows, eval_fraction=0.3, id_field="i").report()
