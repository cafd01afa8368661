"""An expert: it holds the answers, follows a response that is right so far, and then falls silent.

It reads characters, so that it is for policies with one token a character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from distil_core.errors import ExpertError
from distil_core.experts.base import ExpertAnswer, ExpertOptions, ExpertQuery, ExpertSetting
from distil_core.experts.labels import scored_labels
from distil_core.feedback.chat_template import response_end_id
from distil_core.policy.tokenizer import encode_text, load_tokenizer
from distil_core.progress import ProgressCallback

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Options(ExpertOptions):
    """How sure it is."""

    doubt: float = Field(default=0.05, ge=0, lt=1)
    """The share of its mass that it spreads evenly over all tokens."""


class AnswerKey:
    """Has something to say about each rollout, with feedback or without."""

    needs_feedback = False

    def __init__(
        self, options: Options, tokenizer: PreTrainedTokenizerBase, setting: ExpertSetting
    ):
        self._options = options
        self._tokenizer = tokenizer
        self._end = response_end_id(tokenizer)
        self._setting = setting

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """One answer a query, in order."""
        answers = []
        for done, query in enumerate(queries, start=1):
            distribution = scored_labels(
                self._states(query),
                self._options.doubt,
                len(self._tokenizer),
                self._setting.top_k,
                self._setting.top_p,
            )
            answers.append(ExpertAnswer([], distribution))
            progress(done, len(queries))
        return answers

    def _states(self, query: ExpertQuery) -> list[dict[int, float]]:
        """The next token of the solution at each state, nothing after the first wrong one."""
        if query.problem is None:
            raise ExpertError("expert 'answer_key' needs the problem of each rollout, found none")
        solution = [*encode_text(self._tokenizer, query.problem.reference), self._end]
        states: list[dict[int, float]] = []
        for position in range(len(query.response_ids)):
            before = list(query.response_ids[:position])
            is_right = position < len(solution) and before == solution[:position]
            states.append({solution[position]: 1.0} if is_right else {})
        return states


def build(options: Options, setting: ExpertSetting) -> AnswerKey:
    """The student's tokenizer lies in setting.policy_dir."""
    return AnswerKey(options, load_tokenizer(setting.policy_dir), setting)
