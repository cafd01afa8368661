"""Fields as people have them: nested, JSON in a text, chat messages, empty, numbers, NaN."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_jsonl import write_lines

from distil_core.errors import ConfigError, DataError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems._pinned_files import read_content
from distil_core.problems._row_fields import MissingField, find, read_text, reference_text, written
from distil_core.problems.base import Problem, ProblemSource

Rows = list[dict[str, Any]]


def pinned(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": hashlib.sha256(read_content(path)).hexdigest()}


def source(path: Path, kind: str = "jsonl", **options: Any) -> ProblemSource:
    named = {"reference_field": "a", "eval_fraction": 0.5, **options}
    return PROBLEM_SOURCES.build(kind, {"train": pinned(path), **named})


def problems(path: Path, kind: str = "jsonl", **options: Any) -> list[Problem]:
    """In the order of their prompts."""
    found = source(path, kind, **options)
    both = [*found.problems("train", 1), *found.problems("eval", 1)]
    return sorted(both, key=lambda problem: problem.prompt)


@pytest.fixture(params=["jsonl", "parquet"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stored(tmp_path: Path, kind: str, rows: Rows) -> Path:
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        return write_lines(path, *rows)
    # Arrow takes the columns of the first row only.
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    pq.write_table(pa.table(columns), path)
    return path


def chat(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


VERL = [
    {
        "data_source": "sums",
        "prompt": chat(("user", f"What is {n}+1?")),
        "reward_model": {"style": "rule", "ground_truth": str(n + 1)},
        "extra_info": json.dumps({"index": n, "answers": [str(n + 1)]}),
    }
    for n in range(4)
]


@pytest.mark.parametrize("named", [{"prompt_field": "prompt"}, {"prompt_template": "{prompt}"}])
@pytest.mark.parametrize("reference", ["reward_model.ground_truth", "extra_info.answers.0"])
def test_rows_as_verl_has_them(
    tmp_path: Path, kind: str, named: dict[str, str], reference: str
) -> None:
    path = stored(tmp_path, kind, VERL)
    found = problems(
        path,
        kind,
        reference_field=reference,
        id_field="extra_info.index",
        metadata_fields=[],
        **named,
    )
    assert found == [Problem(f"What is {n}+1?", str(n + 1)) for n in range(4)]


def test_nested_fields_in_a_template_and_kept_for_verifiers(tmp_path: Path, kind: str) -> None:
    rows = [
        {"q": {"text": f"q{n}", "hints": ["first", f"last {n}"]}, "a": n, "m": {"tests": [n]}}
        for n in range(3)
    ]
    found = problems(
        stored(tmp_path, kind, rows),
        kind,
        prompt_template="{q.text}: {q.hints.-1}, {q.hints.0}",
        metadata_fields=["m.tests", "m"],
    )
    assert found == [
        Problem(f"q{n}: last {n}, first", str(n), json.dumps({"m": {"tests": [n]}, "tests": [n]}))
        for n in range(3)
    ]


def test_a_column_that_is_called_so_comes_before_a_path() -> None:
    row = {"a.b": 1, "a": {"b": 2, "c.d": {"e": 3}}, "n": None, "j": '{"x": [4]}', "t": "plain"}
    assert find(row, "a.b") == 1
    assert find(row, "a.c.d.e") == 3
    assert find(row, "n.x.y") is None
    assert find(row, "j.x.0") == 4
    for name, message in [
        ("z", "^'z'$"),
        ("a.x", r"'a.x' \('a' has b \(int\), c.d \(dict\)\)"),
        ("j.x.7", r"'j.x' has 1 items"),
        ("j.x.first", "'j.x' has 1 items"),
        ("a.b.c", "'a.b' has the value 2|'a.b.c'"),
    ]:
        with pytest.raises(MissingField, match=message):
            find(row, name)
    with pytest.raises(ValueError, match=r"'t' is text that is no JSON .*found 'plain'"):
        find(row, "t.x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (chat(("user", "Hi")), "Hi"),
        (chat(("user", "Hi"))[0], "Hi"),
        (chat(("system", "Be short."), ("user", "Hi")), "Be short.\n\nHi"),
        (chat(("developer", "Be short."), ("user", "Hi")), "Be short.\n\nHi"),
        (chat(("system", ""), ("user", "Hi")), "Hi"),
        (chat(("system", "Be short."), ("user", " ")), ""),
        (json.dumps(chat(("user", "Hi"))), "Hi"),
        ([{"from": "human", "value": "Hi"}], "Hi"),
        ([{"role": "user", "content": "Hi", "tool_calls": None, "name": None}], "Hi"),
        (chat(("user", [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}])), "1+1?"),
        (chat(("user", [{"type": "text", "text": "Hi", "image": None}])), "Hi"),
        ([{"type": "text", "text": "Hi"}], "Hi"),
        (chat(("user", [{"type": "text", "text": None}])), ""),
        ([{"role": "user"}], ""),
        (str(chat(("user", "It's me"))), "It's me"),
        ("[{'role': 'user', 'content': f()}]", "[{'role': 'user', 'content': f()}]"),
        ("[1, 2] is a list", "[1, 2] is a list"),
        ('[{"role": "user"', '[{"role": "user"'),
        ('[{"name": "f"}]', '[{"name": "f"}]'),
    ],
)
def test_messages_become_what_they_say(value: Any, text: str) -> None:
    assert read_text(value, "prompt") == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (chat(("user", "1"), ("assistant", "2")), r"\(user, assistant\).* prompt.0.content"),
        (chat(("user", "1"), ("user", "2")), r"conversation \(user, user\)"),
        (chat(("system", "1")), r"conversation \(system\)"),
        (chat(("assistant", "1"), ("user", "2")), r"for example prompt.1.content"),
        ([{"from": "human", "value": "1"}, {"from": "gpt", "value": "2"}], "user, assistant"),
        (chat(("user", [{"type": "image_url", "image_url": "x"}])), "a part of type 'image_url'"),
        (chat(("user", 7)), "a part of type 'int'"),
    ],
)
def test_other_conversations_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_text(value, "prompt")
    with pytest.raises(ValueError, match=message):
        read_text(json.dumps(value), "prompt")


@pytest.mark.parametrize("value", [None, 7, ["a"], [], {"role": "cook"}, [{"name": "f"}]])
def test_what_is_neither_text_nor_messages(value: Any) -> None:
    assert read_text(value, "prompt") is None


@pytest.mark.parametrize(
    "value",
    [
        {"messages": chat(("user", "Hi"))},
        [chat(("user", "Hi"))],
        {"a": [{"b": chat(("user", "Hi"))}]},
    ],
)
def test_messages_inside_something_else_are_no_prompt(tmp_path: Path, value: Any) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"q": value, "a": "1"})
    with pytest.raises(
        DataError, match=r"line 1: 'q(\.a\.0)?' holds messages in q\.(messages|0|a\.0)"
    ):
        problems(path, prompt_template="{q}")


EMPTY: list[Any] = [None, "", "  \n", "\u200b", "absent"]


@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_field_of_a_template_leaves_no_trace(
    tmp_path: Path, kind: str, empty: Any
) -> None:
    rows: Rows = [{"q": "q0", "system": empty, "input": empty, "a": "1"}]
    if empty == "absent":
        rows = [{"q": "q0", "a": "1"}]
    rows.append({"q": "q1", "system": "Be short.", "input": "x=1", "a": "2"})
    path = stored(tmp_path, kind, rows)
    for template, without, with_all in [
        ("{system}\n\n{q}", "q0", "Be short.\n\nq1"),
        ("{q}\n\n{input}", "q0", "q1\n\nx=1"),
        ("{q}{input}", "q0", "q1x=1"),
        ("{system}\n\n{q}\n\n{input}\n", "q0", "Be short.\n\nq1\n\nx=1\n"),
        ("{system} {input} {q}!", "q0!", "Be short. x=1 q1!"),
        ("{q}\n\n{system}{input}", "q0", "q1\n\nBe short.x=1"),
    ]:
        found = {problem.prompt for problem in problems(path, kind, prompt_template=template)}
        assert found == {without, with_all}


def test_a_template_is_never_all_empty(tmp_path: Path, kind: str) -> None:
    rows = [{"q": "q", "s": "s", "a": "1"}, {"q": None, "s": " ", "a": "2"}]
    path = stored(tmp_path, kind, rows)
    with pytest.raises(DataError, match=r", (line|row) 2: all fields .* are empty.*'q', 's'"):
        problems(path, kind, prompt_template="{q}\n{s}")


def test_a_field_that_no_row_has_is_a_slip(tmp_path: Path, kind: str) -> None:
    path = stored(tmp_path, kind, [{"q": "q", "a": "1"}, {"q": "r", "a": "1"}])
    with pytest.raises(DataError, match="prompt_template names sytem, which no row has"):
        problems(path, kind, prompt_template="{sytem}{q}")
    with pytest.raises(DataError, match=r"no field 'question'; the first of them has q \(str\)"):
        problems(path, kind, prompt_template="{question}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10, "10"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (6e22, "6e+22"),
        (1e16, "10000000000000000"),
        (-2.5, "-2.5"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (["18"], '["18"]'),
        ({"b": 1, "a": None}, '{"a": null, "b": 1}'),
        (chat(("assistant", "#### 4")), "#### 4"),
        (" 4 ", " 4 "),
    ],
)
def test_a_reference_is_as_people_write_it(value: Any, text: str) -> None:
    assert reference_text(value, "a") == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_written_is_the_number(value: float) -> None:
    assert float(written(value, "a")) == value


@pytest.mark.parametrize(
    "value", [None, "", " \n", "\u200b", True, False, [{"role": "x", "content": ""}]]
)
def test_no_reference(value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected (a reference|text or a number)"):
        reference_text(value, "a")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["q", "a", "m", "deep"])
def test_nan_and_infinities_are_refused_by_line(tmp_path: Path, number: str, field: str) -> None:
    row = {"q": '"q"', "a": "1", "m": "1", "deep": '{"x": [1]}'}
    row[field] = number if field != "deep" else f'{{"x": [0, {number}]}}'
    path = tmp_path / "rows.jsonl"
    bad = "{" + ", ".join(f'"{name}": {value}' for name, value in row.items()) + "}"
    path.write_text(f'{{"q": "fine", "a": "1", "m": 1, "deep": 1}}\n{bad}\n')
    place = r"'deep'\.x\.1" if field == "deep" else f"'?{field}'?"
    with pytest.raises(
        DataError, match=rf"rows\.jsonl, line 2: {place} is -?(nan|inf), which is no"
    ):
        problems(path, prompt_template="{q}")


def test_nan_in_parquet(tmp_path: Path) -> None:
    path = stored(
        tmp_path,
        "parquet",
        [{"q": "q", "a": "1", "m": float("nan")}, {"q": "r", "a": "2", "m": 1.0}],
    )
    with pytest.raises(DataError, match=r"rows\.parquet, row 1: 'm' is nan"):
        problems(path, "parquet", prompt_field="q")
    assert len(problems(path, "parquet", prompt_field="q", metadata_fields=[])) == 2


def test_all_rows_without_a_reference_are_named(tmp_path: Path, kind: str) -> None:
    rows = [{"q": f"q{n}", "a": " " if n % 2 else "1"} for n in range(100)]
    with pytest.raises(DataError) as caught:
        problems(stored(tmp_path, kind, rows), kind, prompt_field="q")
    text = str(caught.value)
    assert "50 rows are no problems" in text
    unit = "line" if kind == "jsonl" else "row"
    for number in range(2, 41, 2):
        assert f", {unit} {number}," in text or f", {unit} {number}:" in text
    assert f"{unit} 42" not in text
    assert "and 30 more" in text
    assert text.count(str(tmp_path)) == 1


def test_two_fields_with_one_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "q", "a": "1", "a": "2"}\n')
    with pytest.raises(DataError, match=r"line 1: .*more than one field is called 'a'"):
        problems(path, prompt_field="q")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_template": "{m} {q}", "reference_field": "m.a"}, "other than the reference"),
        ({"prompt_template": "{m.a.b}", "reference_field": "m.a"}, "other than the reference"),
        ({"prompt_field": "m", "reference_field": "m.1.content"}, "would read the solution"),
        ({"prompt_field": "a", "reference_field": "a"}, "would read the solution"),
        (
            {"prompt_field": "q", "reference_field": "a", "metadata_fields": ["m.x", "n.x"]},
            "more than one field as x",
        ),
    ],
)
def test_settings_that_show_the_solution_or_lose_a_field(
    options: dict[str, Any], message: str
) -> None:
    file = {"path": "a.jsonl", "sha256": ""}
    with pytest.raises(ConfigError, match=message):
        PROBLEM_SOURCES.options("jsonl", {"train": file, "eval": file, **options})


def test_fields_side_by_side_are_no_leak() -> None:
    file = {"path": "a.jsonl", "sha256": ""}
    for options in (
        {"prompt_field": "m.0.content", "reference_field": "m.1.content"},
        {"prompt_template": "{answers}", "reference_field": "answer"},
    ):
        PROBLEM_SOURCES.options("jsonl", {"train": file, "eval": file, **options})
