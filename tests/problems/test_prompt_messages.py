"""Prompts that are lists of messages, as TRL, verl and prime-rl have them, kept as turns."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_row_fields import chat, kind, problems, source, stored

from distil_core.errors import ConfigError, DataError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems._row_fields import read_turns
from distil_core.problems.base import Problem
from distil_core.problems.messages import (
    MESSAGES,
    Message,
    prompt_of,
    transcript,
    with_messages,
)
from distil_core.problems.store import read_problems, write_problems

__all__ = ["kind"]

TALK = chat(("system", "Add."), ("user", "1+1?"), ("assistant", "2"), ("user", "and 1?"))
TURNS = tuple(Message(one["role"], one["content"]) for one in TALK)
TEXT = "Add.\n\nUser: 1+1?\n\nAssistant: 2\n\nUser: and 1?"

ROWS = {
    # Each in its own columns: verl's, TRL's, prime-rl's.
    "verl": {"prompt": TALK, "reward_model": {"style": "rule", "ground_truth": "3"}},
    "trl": {"prompt": TALK, "completion": chat(("assistant", "3"))},
    "prime-rl": {"prompt": TALK, "answer": "3", "info": "{}", "task": "sums"},
}
REFERENCES = {"verl": "reward_model.ground_truth", "trl": "completion", "prime-rl": "answer"}


def kept(path: Path, kind: str, name: str) -> list[Problem]:
    return problems(
        path,
        kind,
        prompt_field="prompt",
        prompt_messages="turns",
        reference_field=REFERENCES[name],
        metadata_fields=[],
    )


@pytest.mark.parametrize("name", ROWS)
def test_rows_as_they_are_published(tmp_path: Path, kind: str, name: str) -> None:
    plain = ROWS[name] | {"prompt": chat(("user", "5+5?"))}
    (spoken, asked) = kept(stored(tmp_path, kind, [ROWS[name], plain]), kind, name)[::-1]
    assert (spoken.prompt, spoken.reference, prompt_of(spoken)) == (TEXT, "3", TURNS)
    # A user's message alone is the problem that it always was.
    assert asked == Problem("5+5?", "3")
    assert prompt_of(asked) == "5+5?"


def test_they_survive_the_table_of_problems(tmp_path: Path, kind: str) -> None:
    found = kept(stored(tmp_path, kind, [ROWS["verl"]] * 2), kind, "verl")
    write_problems(tmp_path / "train.parquet", found, {})
    (again,) = read_problems(tmp_path / "train.parquet")
    assert prompt_of(again) == TURNS
    assert again.problem_id == Problem(TEXT, "3").problem_id


def test_a_text_among_messages_is_a_text(tmp_path: Path, kind: str) -> None:
    rows = [{"q": json.dumps(TALK), "a": "3"}, {"q": "4+4?", "a": "8", "m": 1}]
    found = problems(stored(tmp_path, kind, rows), kind, prompt_field="q", prompt_messages="turns")
    assert [prompt_of(one) for one in found] == ["4+4?", TURNS]
    # Where there are messages, what verifiers read is kept beside them.
    assert json.loads(found[1].metadata).keys() - {"m"} == {MESSAGES}


def test_joined_they_are_as_ever(tmp_path: Path, kind: str) -> None:
    rows = [{"q": TALK[:2], "a": "3"}]
    (joined,) = problems(stored(tmp_path, kind, rows), kind, prompt_field="q")
    (turns,) = problems(
        stored(tmp_path, kind, rows), kind, prompt_field="q", prompt_messages="turns"
    )
    assert joined == Problem("Add.\n\n1+1?", "3")
    assert (turns.problem_id, prompt_of(turns)) == (joined.problem_id, TURNS[:2])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (TALK[:3], r"must end with a user's message.*found \(system, user, assistant\)"),
        (TALK[:1], r"must end with a user's message.*found \(system\)"),
        ([TALK[1], TALK[0], TALK[3]], r"q\.1 is a system message: expected one at the beginning"),
        ([TALK[1], {"role": "tool", "content": "3"}, TALK[3]], r"q\.1 is a message of 'tool'"),
        (
            [TALK[1], {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}, TALK[3]],
            r"q\.1, a message of 'assistant', has no text but calls of tools",
        ),
        ([TALK[1], {"role": "user", "content": " "}], r"q\.1, a message of 'user', has no text"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
            "a part of type 'image_url'",
        ),
    ],
)
def test_other_conversations_are_refused_by_row(tmp_path: Path, value: Any, message: str) -> None:
    path = stored(tmp_path, "jsonl", [{"q": TALK, "a": "1"}, {"q": value, "a": "2"}])
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: .*{message}"):
        problems(path, prompt_field="q", prompt_messages="turns")


def test_a_blank_system_turn_is_none() -> None:
    assert read_turns(chat(("system", " "), ("user", "Hi")), "q") == (Message("user", "Hi"),)
    assert read_turns("Hi", "q") is None
    assert read_turns([1], "q") is None


def test_one_text_and_other_messages(tmp_path: Path) -> None:
    rows = [
        {"q": chat(("system", "Add."), ("user", "1+1?")), "a": "2"},
        {"q": "Add.\n\n1+1?", "a": "2"},
    ]
    path = stored(tmp_path, "jsonl", rows)
    with pytest.raises(DataError, match=r"line 2: the prompt's text is that of .*line 1, but its"):
        problems(path, prompt_field="q", prompt_messages="turns")


def test_our_name_in_the_metadata_is_taken() -> None:
    with pytest.raises(ValueError, match="DistIL's own name"):
        with_messages({MESSAGES: 1}, TURNS)
    assert transcript(TURNS[:2]) == "Add.\n\n1+1?"
    bad = Problem("x", "y", json.dumps({MESSAGES: [{"role": "user"}]}))
    with pytest.raises(DataError, match="must be a list of messages with role and content"):
        prompt_of(bad)


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    path = stored(tmp_path, "jsonl", [{"q": TALK, "a": "1"}])
    with pytest.raises(ConfigError, match="turns needs prompt_field"):
        source(path, prompt_template="{q}", prompt_messages="turns")
    with pytest.raises(ConfigError, match="row_format takes the place of prompt_messages"):
        PROBLEM_SOURCES.options(
            "jsonl",
            {
                "train": {"path": "a", "sha256": ""},
                "eval_fraction": 0.5,
                "row_format": "mbpp",
                "prompt_messages": "turns",
            },
        )
