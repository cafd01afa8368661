"""Settings of contexts: turns, options of chat templates, thinking (1 s)."""

import re
from pathlib import Path
from typing import Any

import pytest
from test_models import changed, message

from distil_core.campaign.load import parse_params
from distil_core.config.models import ContextParams

CHAT = {
    "base": {"kind": "pretrained", "path_or_id": "model"},
    "context.chat": True,
}
USER = {"role": "user", "content": "{prompt}"}
SYSTEM = {"role": "system", "content": "Be short."}
ANSWER = {"role": "assistant", "content": "{attempt}"}
AGAIN = {"role": "user", "content": "{execution_trace}"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"context.student_template": []}, "student_template: .*at least 1"),
        ({"context.student_template": [SYSTEM]}, r"last message must be the user's.*system"),
        ({"context.student_template": [USER, SYSTEM, USER]}, "only the first message may be"),
        ({"context.student_template": [{"role": "bot", "content": ""}]}, "role: .*'assistant'"),
        ({"context.student_template": [USER, {**USER, "role": "tool"}]}, "last .*found user, tool"),
        ({"context.student_template": [{**USER, "name": "x"}]}, "name: no such setting"),
        (
            {"context.student_template": [USER, ANSWER, USER]},
            r"student_template.1.content: unknown field \['attempt'\]; known: prompt",
        ),
        (
            {"context.expert_template": [{**SYSTEM, "content": "{prompt}"}, AGAIN]},
            r"expert_template: {prompt} must stand in one message, of the user, found it in system",
        ),
        ({"context.expert_template": [AGAIN]}, "must stand in one message.*found it in none"),
        ({"context.expert_template": [USER, ANSWER, USER]}, "found it in user, user"),
        (
            {"context.expert_template": [USER, ANSWER, {**USER, "content": "{system}"}]},
            r"expert_template.2.content: unknown field \['system'\]",
        ),
        ({"context.chat_template_kwargs": {"messages": []}}, "messages cannot be set here"),
        ({"context.expert_chat": {"chat_template_kwargs": {"tools": []}}}, "tools cannot be set"),
        (
            {"context.expert_chat": {"chat_template": "a", "chat_template_file": "b"}},
            "expected one of chat_template and chat_template_file",
        ),
        (
            {"context.expert_chat": {"chat_template_file": "no.jinja"}},
            "params.yaml: context.expert_chat.chat_template_file: no.jinja cannot be read",
        ),
        ({"context.strip_thinking": ["attempt", "attempt"]}, "strip_thinking names a field twice"),
        ({"context.strip_thinking": ["atempt"]}, r"unknown field \['atempt'\].*mean attempt"),
        ({"context.strip_thinking": ["peer_solution"]}, "names peer_solution, which is in no temp"),
    ],
)
def test_what_cannot_work_is_refused(
    settings: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    found = message(settings, CHAT | changes)
    assert re.search(expected, found), found


@pytest.mark.parametrize(
    "changes",
    [
        {"context.student_template": [USER]},
        {"context.chat_template_kwargs": {"enable_thinking": False}},
        {"context.expert_chat": {"chat_template": "x"}},
    ],
)
def test_they_need_a_chat_template(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    assert "set chat: true" in message(settings, changes)


def test_conversations_need_one_too(settings: dict[str, Any]) -> None:
    options = {"prompt_field": "q", "reference_field": "a", "prompt_messages": "turns"}
    file = {"path": "rows.jsonl", "sha256": "0" * 64}
    source = {"name": "jsonl", "options": {"train": file, "eval_fraction": 0.1, **options}}
    changes = {"base": CHAT["base"], "problems.source": source, "problems.generalisation": None}
    assert "prompt_messages is turns" in message(settings, changes)


def test_turns_are_read_and_the_file_becomes_its_text(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.jinja").write_text("{{ messages }} é", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    changes = {
        "context.student_template": [SYSTEM, USER],
        "context.expert_template": [{**SYSTEM, "content": "{system}"}, USER, ANSWER, AGAIN],
        "context.expert_chat": {"chat_template_file": "other.jinja"},
        "context.strip_thinking": ["attempt", "history"],
    }
    context = parse_params(changed(settings, CHAT | changes), "params.yaml").context
    assert context.expert_chat is not None
    assert context.expert_chat.chat_template == "{{ messages }} é"
    assert context.expert_chat.chat_template_file is None
    assert [one.role for one in context.expert_template if not isinstance(one, str)] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert ContextParams.model_validate(context.model_dump(mode="json")) == context


def test_what_is_not_set_is_not_frozen(settings: dict[str, Any]) -> None:
    """Iterations of before have no such settings, and stages depend on the whole section."""
    frozen = parse_params(settings, "params.yaml").context.model_dump(mode="json")
    assert list(frozen) == [
        "student_template",
        "expert_template",
        "max_context_tokens",
        "chat",
        "shorten",
        "shortening_marker",
        "bos",
        "chat_date",
    ]
