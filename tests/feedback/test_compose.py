"""Contexts: templates are checked, content stays data, and both end alike (1 s)."""

from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.errors import ConfigError
from distil_core.feedback.compose import (
    ATTEMPT_FIELDS,
    Segment,
    check_templates,
    has_feedback,
    render_expert,
    render_student,
)
from distil_core.feedback.sources import known_kinds
from distil_core.policy.tokenizer import encode_context
from distil_core.verifiers.base import FeedbackItem

KINDS = known_kinds()
STUDENT = "{prompt}|"
EXPERT = "{prompt}?{attempt}#{verdict} {execution_trace}|"
HOSTILE = [
    "{verdict}",
    "{0}",
    "{",
    "}}{{",
    "{prompt.__class__}",
    "%s $x ${x} {{ jinja }} {% if %}",
    "<|end|>",
    "a<|end|>|<|pad|>",
    "|",
    "",
    "\n\x00é日",
]
content = st.sampled_from(HOSTILE) | st.text(max_size=12)


def text_of(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def trace(text: str) -> FeedbackItem:
    return FeedbackItem("execution_trace", text)


def test_fields_are_filled_in_place() -> None:
    assert text_of(render_student(STUDENT, "1+1=")) == "1+1=|"
    segments = render_expert(EXPERT, "1+1=", "3", "wrong", [trace("2")])
    assert text_of(segments) == "1+1=?3#wrong 2|"
    assert [segment.text for segment in segments if segment.is_template] == ["?", "#", " ", "|"]


@given(content, content, content, content)
def test_content_is_inserted_as_it_is(prompt: str, attempt: str, verdict: str, said: str) -> None:
    segments = render_expert(EXPERT, prompt, attempt, verdict, [trace(said)])
    assert text_of(segments) == f"{prompt}?{attempt}#{verdict} {said}|"
    contents = [segment.text for segment in segments if not segment.is_template]
    assert contents == [text for text in (prompt, attempt, verdict, said) if text]


@given(content, content, content)
@hypothesis_settings(deadline=None)
def test_student_and_expert_end_in_the_same_token(
    tokenizer: Any, prompt: str, attempt: str, said: str
) -> None:
    student = encode_context(tokenizer, render_student(STUDENT, prompt))
    expert = encode_context(
        tokenizer, render_expert(EXPERT, prompt, attempt, "wrong", [trace(said)])
    )
    assert student[-1] == expert[-1] == tokenizer.convert_tokens_to_ids("|")
    end = tokenizer.eos_token_id
    assert end not in student
    assert end not in expert


def test_special_tokens_of_the_template_are_meant_those_of_content_are_text(tokenizer: Any) -> None:
    template = "{prompt}<|end|>{{x}}|"
    assert check_templates(template, template, KINDS) is None
    ids = encode_context(tokenizer, render_student(template, "<|end|>"))
    assert ids == [
        *tokenizer.convert_tokens_to_ids(list("<|end|>")),
        tokenizer.eos_token_id,
        *tokenizer.convert_tokens_to_ids(list("{x}|")),
    ]
    # The tokenizer's switch between the two must not stick.
    assert encode_context(tokenizer, render_student(template, "<|end|>")) == ids


def test_items_of_one_kind_are_lines_and_an_absent_kind_is_empty() -> None:
    template = "{prompt}{tool_output}#{peer_solution}|"
    items = [FeedbackItem("tool_output", "a"), trace("unused"), FeedbackItem("tool_output", "b")]
    assert text_of(render_expert(template, "p:", "x", "wrong", items)) == "p:a\nb#|"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{{prompt}}}|", "{1+1=}|"),
        ("{{prompt}} {prompt}|}}", "{prompt} 1+1=|}"),
        ("{prompt}{{|", "1+1={|"),
        ("{prompt} {prompt}|", "1+1= 1+1=|"),
    ],
)
def test_escaped_braces_are_braces(template: str, expected: str) -> None:
    check_templates(template, template, KINDS)
    assert text_of(render_student(template, "1+1=")) == expected == template.format(prompt="1+1=")


def test_the_expert_has_nothing_to_say_without_feedback_it_reads() -> None:
    assert has_feedback(EXPERT, [trace("2")])
    assert not has_feedback(EXPERT, [])
    assert not has_feedback(EXPERT, [trace("")])
    assert not has_feedback(EXPERT, [FeedbackItem("tool_output", "not in the template")])
    assert not has_feedback("{prompt} {{execution_trace}}|", [trace("2")])
    assert has_feedback(EXPERT, [trace(""), trace("2")])


@pytest.mark.parametrize(
    ("student", "expert", "expected"),
    [
        ("{prompt}{attempt}|", EXPERT, r"student_template: unknown field \['attempt'\]; known: pr"),
        ("{prompt}{execution_trace}|", EXPERT, r"student_template: unknown field"),
        (STUDENT, "{prompt}{reference}|", r"expert_template: unknown field \['reference'\]; known"),
        (STUDENT, "{prompt}{}|", r"expert_template: unknown field \[''\]"),
        (STUDENT, "{prompt.__class__}|", r"expert_template: unknown field"),
        (STUDENT, "{prompt[0]}|", r"expert_template: unknown field"),
        ("{prompt:>9}|", EXPERT, r"student_template: field 'prompt' has a conversion or format"),
        (STUDENT, "{prompt!r}|", r"expert_template: .* write \{prompt\}"),
        ("question|", EXPERT, r"student_template: must contain \{prompt\}, found 'question\|'"),
        ("", EXPERT, r"student_template: must contain \{prompt\}"),
        (STUDENT, "{attempt}|", r"expert_template: must contain \{prompt\}"),
        ("{{prompt}}|", EXPERT, r"student_template: must contain \{prompt\}"),
        ("{prompt|", EXPERT, r"student_template: .*\(write a literal brace twice\)"),
        ("{prompt}|}", EXPERT, r"student_template: .*\(write a literal brace twice\)"),
        ("{prompt}", "{prompt}", r"must end in the same literal text.* found '' and ''"),
        ("{prompt}", EXPERT, r"must end in the same literal text.* found '' and '\|'"),
        ("{prompt}>", EXPERT, r"must end in the same literal text.* found '>' and '\|'"),
        (STUDENT, EXPERT + "{tool_output}", r"must end in the same literal text"),
    ],
)
def test_a_template_that_cannot_work(student: str, expert: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"context\..*{expected}"):
        check_templates(student, expert, KINDS)


def test_templates_of_this_project_and_of_all_fields_pass() -> None:
    check_templates(STUDENT, EXPERT, KINDS)
    every_field = " ".join(f"{{{name}}}" for name in sorted(ATTEMPT_FIELDS | KINDS)) + "|"
    check_templates(STUDENT, every_field, KINDS)
    assert {field for _, field, _, _ in Formatter().parse(every_field) if field} == {
        "prompt",
        "attempt",
        "verdict",
        "execution_trace",
        "tool_output",
        "expert_correction",
        "self_evaluation",
        "peer_solution",
    }
