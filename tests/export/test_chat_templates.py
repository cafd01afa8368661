"""The campaign's context as a chat template, by transformers' own `apply_chat_template`."""

from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distil_core.config.models import ContextParams
from distil_core.export.chat_template import campaign_chat_template, count_same_tokens
from distil_core.feedback.contexts import ContextRenderer
from distil_core.problems.messages import Message

CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LITERAL = st.text(st.characters(codec="utf-8", exclude_characters="{}"), max_size=12)


def context(student: str, **changes: Any) -> ContextParams:
    return ContextParams(
        student_template=student,
        expert_template=student + "",
        max_context_tokens=4096,
        **changes,
    )


def applied(tokenizer: Any, template: str, *contents: tuple[str, str]) -> list[int]:
    turns = [{"role": role, "content": content} for role, content in contents]
    found = tokenizer.apply_chat_template(
        turns, chat_template=template, add_generation_prompt=True, return_dict=False
    )
    return list(found)


@settings(deadline=None, max_examples=60)
@given(before=LITERAL, between=LITERAL, content=st.text(max_size=20))
def test_any_text_around_the_problem_is_written_as_it_is(
    tokenizer: Any, before: str, between: str, content: str
) -> None:
    params = context(f"{before}{{prompt}}{between}{{prompt}}|")
    template = campaign_chat_template(params, tokenizer)
    ours = ContextRenderer(params, tokenizer).student(content, "p").token_ids
    assert applied(tokenizer, template, ("user", content)) == ours


@settings(deadline=None, max_examples=20)
@given(before=LITERAL, after=LITERAL)
def test_a_models_own_template_stays_around_it(tokenizer: Any, before: str, after: str) -> None:
    kept = tokenizer.chat_template
    tokenizer.chat_template = CHAT
    try:
        params = context(f"{before}{{prompt}}{after}", chat=True)
        template = campaign_chat_template(params, tokenizer)
        ours = ContextRenderer(params, tokenizer).student("1+2", "p").token_ids
        assert applied(tokenizer, template, ("user", "1+2")) == ours
        more = applied(tokenizer, template, ("system", "s"), ("user", "1"), ("assistant", "2"))
        text = f"<system>s</><user>{before}1{after}</><assistant>2</><assistant>"
        assert more == tokenizer.encode(text, add_special_tokens=False)
    finally:
        tokenizer.chat_template = kept


def test_a_bare_problem_needs_nothing_but_the_models_own(tokenizer: Any) -> None:
    kept = tokenizer.chat_template
    tokenizer.chat_template = CHAT
    try:
        assert campaign_chat_template(context("{prompt}", chat=True), tokenizer) == CHAT
    finally:
        tokenizer.chat_template = kept


TURNS = [
    {"role": "system", "content": 'Be "short".'},
    {"role": "user", "content": "1+1="},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "Now {prompt}\n!"},
    {"role": "assistant", "content": "Sure?"},
    {"role": "user", "content": "Yes."},
]


@pytest.mark.parametrize("system", ['Be "short".', " {system}", "First {system} \n", None])
@pytest.mark.parametrize("last", [4, 6])
@pytest.mark.parametrize("spoken", [False, True])
def test_turns_of_the_campaign_stand_around_those_that_are_given(
    tokenizer: Any, system: str | None, last: int, spoken: bool
) -> None:
    turns = TURNS[1:last]
    if system is not None:
        turns = [{"role": "system", "content": system}, *turns]
    prompt: tuple[Message, ...] = (
        Message("user", "3+3="),
        Message("assistant", "6"),
        Message("user", "4+4="),
    )
    if spoken and system != TURNS[0]["content"]:
        prompt = (Message("system", "S"), *prompt)
    kept = tokenizer.chat_template
    tokenizer.chat_template = CHAT
    try:
        params = ContextParams.model_validate(
            context("{prompt}", chat=True).model_dump(mode="json") | {"student_template": turns}
        )
        template = campaign_chat_template(params, tokenizer)
        renderer = ContextRenderer(params, tokenizer)
        for asked in (prompt, prompt[-1:]):
            ours = renderer.student(asked, "p").token_ids
            assert applied(tokenizer, template, *asked) == ours
        if system == TURNS[0]["content"]:
            with pytest.raises(jinja2.TemplateError, match="a system turn of its own"):
                applied(tokenizer, template, ("system", "s"), ("user", "u"))
        with pytest.raises(jinja2.TemplateError, match="last message must be of a user"):
            applied(tokenizer, template, ("user", "u"), ("assistant", "a"))
    finally:
        tokenizer.chat_template = kept


def test_conversations_keep_earlier_turns_as_they_are(tokenizer: Any) -> None:
    kept = tokenizer.chat_template
    tokenizer.chat_template = CHAT
    try:
        params = context("Q: {prompt}!", chat=True)
        template = campaign_chat_template(params, tokenizer, conversations=True)
        prompt = (Message("user", "1"), Message("assistant", "2"), Message("user", "3"))
        ours = ContextRenderer(params, tokenizer).student(prompt, "p").token_ids
        assert applied(tokenizer, template, *prompt) == ours
    finally:
        tokenizer.chat_template = kept


def test_options_of_the_template_are_the_exported_ones_unless_set(tokenizer: Any) -> None:
    kept = tokenizer.chat_template
    tokenizer.chat_template = CHAT + "{{ mode | tojson }}{{ deep | tojson }}"
    try:
        kwargs = {"mode": False, "deep": {"a": [1, None, 'x"y'], "b": True}}
        params = context("{prompt}", chat=True, chat_template_kwargs=kwargs)
        template = campaign_chat_template(params, tokenizer)
        ours = ContextRenderer(params, tokenizer).student("1", "p").token_ids
        assert applied(tokenizer, template, ("user", "1")) == ours
        turns = [{"role": "user", "content": "1"}]
        text = tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=True, mode="other"
        )
        assert '"other"' in text
    finally:
        tokenizer.chat_template = kept


@pytest.mark.parametrize(
    "turns", [[("system", "s"), ("user", "u")], [("user", "u"), ("assistant", "a")]]
)
def test_turns_that_were_never_trained_are_refused(
    tokenizer: Any, turns: list[tuple[str, str]]
) -> None:
    template = campaign_chat_template(context("{prompt}|"), tokenizer)
    with pytest.raises(jinja2.TemplateError, match="one message of a user alone"):
        applied(tokenizer, template, *turns)


def test_tokens_that_join_across_the_border_are_counted(tokenizer: Any) -> None:
    """A tokenizer with `a=` as one token: the campaign encodes template and problem apart."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<end>": 0, "=": 1, "a": 2, "a=": 3, "b": 4}
    bpe = Tokenizer(models.BPE(vocabulary, merges=[("a", "=")]))
    bpe.pre_tokenizer = pre_tokenizers.Sequence([])
    joining = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>")
    params = context("{prompt}=")
    joining.chat_template = campaign_chat_template(params, joining)
    assert count_same_tokens(joining, params, joining, ["b", "a", "bb"]) == 2
