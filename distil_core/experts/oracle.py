"""A program that knows the answer as expert: the problem source's own oracle, at each state.

For tests and studies, and for policies with one token per character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from distil_core.config.models import Component
from distil_core.errors import ConfigError, ExpertError
from distil_core.experts.base import ExpertAnswer, ExpertOptions, ExpertQuery, ExpertSetting
from distil_core.experts.labels import scored_labels
from distil_core.feedback.chat_template import response_end_id
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.tokenizer import encode_text, load_tokenizer
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.progress import ProgressCallback

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNREADABLE = "\0"
"""Stands for a sampled token that is no single character, such as a special one."""


class Options(ExpertOptions):
    """A program that knows the answer."""

    source: Component
    """The problem source that knows the answers, as in problems.source."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Share of the mass that is spread evenly over the vocabulary; 0 puts all on the oracle's
    character."""

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: Component) -> Component:
        PROBLEM_SOURCES.options(source.name, source.options)
        return source


class OracleExpert:
    """Asks the problem source. It knows the answer, so it has something to say about any
    rollout."""

    needs_feedback = False

    def __init__(
        self,
        source: SupervisedSource,
        tokenizer: PreTrainedTokenizerBase,
        label_smoothing: float,
        top_k: int,
        top_p: float,
    ):
        self._source = source
        self._tokenizer = tokenizer
        self._ends = end_token_ids(tokenizer)
        self._end = response_end_id(tokenizer)
        self._label_smoothing = label_smoothing
        self._top_k = top_k
        self._top_p = top_p

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """One label for each state. Raises `ExpertError` where a character is not a single
        token."""
        answers = []
        for done, query in enumerate(queries, start=1):
            if query.problem is None:
                raise ExpertError("expert 'oracle' needs the problem of each rollout, found none")
            labels = self._labels(query.problem, query.response_ids)
            distribution = scored_labels(
                [{label: 1.0} for label in labels],
                self._label_smoothing,
                len(self._tokenizer),
                self._top_k,
                self._top_p,
            )
            answers.append(ExpertAnswer([], distribution))
            progress(done, len(queries))
        return answers

    def _labels(self, problem: Problem, response_ids: Sequence[int]) -> list[int]:
        """One label for each response token; the end token follows the solution's last
        character."""
        ended = bool(response_ids) and response_ids[-1] in self._ends
        attempt = "".join(map(self._character, response_ids[:-1] if ended else response_ids))
        characters = self._source.oracle_characters(problem, attempt)
        labels = encode_text(self._tokenizer, characters)
        if len(labels) != len(characters):
            raise ExpertError(
                f"expert 'oracle' needs a tokenizer with one token a character, but encodes "
                f"{characters!r} to {len(labels)} tokens: use another expert for this policy"
            )
        labels += [self._end] * (len(response_ids) - len(labels))
        return labels[: len(response_ids)]

    def _character(self, token_id: int) -> str:
        if token_id in self._tokenizer.all_special_ids:
            return _UNREADABLE
        text = str(self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False))
        return text if len(text) == 1 else _UNREADABLE


def build(options: Options, setting: ExpertSetting) -> OracleExpert:
    """Raises `ConfigError` where the problem source has no oracle."""
    source = PROBLEM_SOURCES.build(options.source.name, options.source.options)
    if not isinstance(source, SupervisedSource):
        raise ConfigError(
            f"expert 'oracle' needs a problem source with oracle_characters; "
            f"{options.source.name!r} has none: choose another tabulate.expert"
        )
    return OracleExpert(
        source,
        load_tokenizer(setting.policy_dir),
        options.label_smoothing,
        setting.top_k,
        setting.top_p,
    )
