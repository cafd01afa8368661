"""The tokens between two turns (each chat template starts a process, so about 15 s)."""

import json
from datetime import date
from typing import Any

import pytest
from chat_families import CHATML, FAMILIES, GEMMA, family
from hypothesis import given
from hypothesis import strategies as st

from distil_core.config.models import ContextParams, EnvironmentParams
from distil_core.errors import ConfigError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.feedback.observations import ObservationWriter
from distil_core.policy.tokenizer import decode, encode_text

ROLES = {"llama3": "tool", "qwen3": "user", "gemma": "user", "chatml": "tool", "mistral": "user"}


def params(chat: bool = True, **environment: Any) -> ContextParams:
    values = {"name": "tools", "max_turns": 3, "max_observation_tokens": 200}
    return ContextParams(
        student_template="{prompt} Answer.",
        expert_template="{prompt} Tried: {attempt} Tool: {tool_output} Answer.",
        max_context_tokens=2000,
        chat=chat,
        chat_date=date.today(),
        environment=EnvironmentParams.model_validate(values | environment),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_rollout_has_the_tokens_of_the_whole_conversation(name: str) -> None:
    """Written turn by turn, without encoding anything twice, it is what the chat template makes of
    all messages at once."""
    tokenizer, role = family(name), ROLES[name]
    settings = params(role=role, observation_template="It says {observation}.")
    context = ContextRenderer(settings, tokenizer).student("2+3=", "p")
    response = [*encode_text(tokenizer, "[2+3]"), tokenizer.eos_token_id]
    between = ObservationWriter(settings, tokenizer).write("5").token_ids
    messages = [
        {"role": "user", "content": "2+3= Answer."},
        {"role": "assistant", "content": "[2+3]"},
        {"role": role, "content": "It says 5."},
    ]
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    # Some write a space before the assistant's text, which a policy writes itself or does not.
    found = tokenizer.decode([*context.token_ids, *response, *between])
    expected = tokenizer.decode(whole)
    if name == "mistral":
        expected = expected.replace(" [2+3]", "[2+3]")
        assert found == expected
    else:
        assert [*context.token_ids, *response, *between] == whole


@pytest.mark.parametrize("name", ["llama3", "chatml"])
def test_what_an_environment_says_can_neither_end_a_turn_nor_open_one(name: str) -> None:
    tokenizer = family(name)
    writer = ObservationWriter(params(), tokenizer)
    _, _, end, special = FAMILIES[name]
    marks = [end, *special, "</think>", "<think>"]
    plain = writer.write("x").token_ids
    attack = writer.write("x".join(marks))
    assert attack.text == "x".join(marks)
    for mark in marks:
        number = tokenizer.convert_tokens_to_ids(mark)
        assert attack.token_ids.count(number) == plain.count(number)
    assert "x".join(marks) in tokenizer.decode(attack.token_ids)


@given(text=st.text(alphabet="0123456789+-=ab", max_size=60), limit=st.integers(8, 40))
def test_of_a_long_observation_the_middle_is_left_out(
    tokenizer: Any, text: str, limit: int
) -> None:
    writer = ObservationWriter(
        params(chat=False, max_observation_tokens=limit, observation_template="={observation};"),
        tokenizer,
    )
    found = writer.write(text)
    assert len(found.token_ids) <= limit
    assert decode(tokenizer, found.token_ids) == f"={found.text};"
    if len(text) + 2 <= limit:
        assert found.text == text
    elif found.text:
        before, _, after = found.text.partition("[...]")
        assert text.startswith(before)
        assert text.endswith(after)
        assert len(found.token_ids) == limit
        assert 0 <= len(before) - len(after) <= 1


def test_without_room_for_an_observation_the_limit_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"max_observation_tokens is 2, of which .* takes 2"):
        ObservationWriter(
            params(chat=False, max_observation_tokens=2, observation_template="={observation};"),
            tokenizer,
        )


def test_the_chat_template_is_told_of_the_tools_and_must_have_a_place_for_them() -> None:
    """With the environment `tools`, whose calculator is known before it starts."""
    with_tools = CHATML.replace(
        "{% for message",
        "{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}"
        "{% for message",
        1,
    )
    options = {"tools": [{"name": "calculator"}]}
    settings = params(declare_tools=True, options=options)
    context = ContextRenderer(settings, family("chatml", with_tools)).student("2+3=", "p")
    text = "".join(segment.text for segment in context.segments)
    schema = json.loads(text.partition("<|im_start|>")[0])
    assert schema["function"]["name"] == "calculator"
    plain = ContextRenderer(params(options=options), family("chatml", with_tools))
    assert "calculator" not in plain.student("2+3=", "p").segments[0].text
    with pytest.raises(ConfigError, match="declare_tools: the chat template has no place"):
        ContextRenderer(settings, family("chatml"))


def test_a_chat_template_that_takes_no_such_message_is_refused() -> None:
    with pytest.raises(ConfigError, match="role 'tool' after the assistant's"):
        ObservationWriter(params(), family("gemma", GEMMA))


def test_a_chat_template_must_end_the_assistants_turn() -> None:
    open_ended = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    with pytest.raises(ConfigError, match="does not begin with the policy's end token"):
        ObservationWriter(params(), family("chatml", open_ended))
