"""Contexts begin with the model's first token where its own files ask for it, and never twice."""

from collections.abc import Sequence
from typing import Any

import pytest
from test_chat_template import CHATML, tokenizer_with
from tokenizers import processors

from distil_core.config.models import ContextParams
from distil_core.errors import ConfigError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.conventions import Conventions, register_conventions
from distil_core.policy.tokenizer import encode_text
from distil_core.verifiers.base import FeedbackItem


def tokenizer_that(writes: bool = False, needs: bool = False, template: Any = None) -> Any:
    tokenizer = tokenizer_with(template)
    if writes:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    register_conventions(tokenizer, Conventions(needs_bos=needs))
    return tokenizer


def contexts(tokenizer: Any, start: str = "", chat: bool = False, **more: Any) -> list[list[int]]:
    params = ContextParams(
        student_template=f"{start}{{prompt}}\n",
        expert_template=f"{start}{{prompt}} {{attempt}} {{tool_output}}\n",
        max_context_tokens=200,
        chat=chat,
        **more,
    )
    renderer = ContextRenderer(params, tokenizer)
    feedback: Sequence[FeedbackItem] = [FeedbackItem("tool_output", "no")]
    found = [
        renderer.student("<s>hi", "p"),
        renderer.expert("<s>hi", "1", "incorrect", feedback, "p"),
        renderer.question(f"{start}Is {{attempt}} right?\n", {"attempt": "1"}, "p"),
    ]
    renderer.require_same_ending(*(context.token_ids for context in found[:2]))
    return [context.token_ids for context in found]


@pytest.mark.parametrize(("writes", "needs"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("start", ["", "<s>", "<s>Solve: ", "Solve: "])
def test_it_comes_first_and_once(writes: bool, needs: bool, start: str) -> None:
    tokenizer = tokenizer_that(writes, needs)
    for token_ids in contexts(tokenizer, start):
        assert token_ids[0] == tokenizer.bos_token_id
        # What looks like it in a prompt stays text.
        assert token_ids.count(tokenizer.bos_token_id) == 1
    student = contexts(tokenizer, start)[0]
    literal = start.removeprefix("<s>")
    assert student[1:] == [
        *encode_text(tokenizer, literal),
        *encode_text(tokenizer, "<s>hi"),
        *encode_text(tokenizer, "\n"),
    ]


def test_nothing_comes_first_where_nothing_asks_for_it() -> None:
    for token_ids in contexts(tokenizer_that()):
        assert tokenizer_that().bos_token_id not in token_ids


def test_settings_decide() -> None:
    bare, writing = tokenizer_that(), tokenizer_that(writes=True)
    assert all(ids[0] == bare.bos_token_id for ids in contexts(bare, bos="always"))
    assert all(bare.bos_token_id not in ids for ids in contexts(writing, bos="never"))
    bare.bos_token = None
    with pytest.raises(ConfigError, match=r"context\.bos is always"):
        contexts(bare, bos="always")


def test_a_chat_template_writes_it_itself_or_not_at_all() -> None:
    chatml = tokenizer_that(writes=True, template=CHATML)
    assert all(chatml.bos_token_id not in ids for ids in contexts(chatml, chat=True))
    writing = tokenizer_that(writes=True, template="{{ bos_token }}" + CHATML)
    for setting in ("auto", "always", "never"):
        for ids in contexts(writing, chat=True, bos=setting):
            assert ids[0] == writing.bos_token_id
            assert ids.count(writing.bos_token_id) == 1
