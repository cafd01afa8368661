"""The end tokens of an expert that has the student's tokenizer and ends a response with others, as
a chat model beside its base model does.

What the expert means by an end of its own is what the student's end means. So the mass that it
gives to ends which end no response of the student's is moved to the end that does; otherwise the
student would learn to write them, and run on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from distil_core.engines.base import ScoredResponse
from distil_core.experts.base import Expert, ExpertAnswer, ExpertQuery
from distil_core.feedback.chat_template import response_end_id
from distil_core.policy.conventions import end_token_ids
from distil_core.progress import ProgressCallback

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class OtherEnds:
    """foreign: ends of the expert's that end no response of the student's. end_id: the end of the
    student's that stands for them."""

    foreign: tuple[int, ...]
    end_id: int

    @classmethod
    def between(
        cls, student: PreTrainedTokenizerBase, expert: PreTrainedTokenizerBase
    ) -> OtherEnds | None:
        """None where every end of the expert's is one of the student's."""
        own = end_token_ids(student)
        foreign = tuple(end for end in end_token_ids(expert) if end not in own)
        return cls(foreign, response_end_id(student)) if foreign else None

    def in_response(self, token_ids: Sequence[int]) -> list[int]:
        """What the expert wrote, with the student's end."""
        ids = list(token_ids)
        return [*ids[:-1], self.end_id] if ids and ids[-1] in self.foreign else ids

    def in_distribution(self, scored: ScoredResponse) -> ScoredResponse:
        """The expert's distribution with the student's end. Where that end is not among the stored
        ids, its own mass stays in the tail; so does the mass of ends that are not stored."""
        position_n = np.repeat(np.arange(len(scored.counts_t)), scored.counts_t)
        ids_n = np.where(np.isin(scored.token_ids, self.foreign), self.end_id, scored.token_ids)
        places_n2 = np.stack([position_n, ids_n], axis=1)
        places_m2, place_n = np.unique(places_n2, axis=0, return_inverse=True)
        logprobs_m = np.full(len(places_m2), -np.inf)
        np.logaddexp.at(logprobs_m, place_n.reshape(-1), scored.logprobs.astype(np.float64))
        order_m = np.lexsort((places_m2[:, 1], -logprobs_m, places_m2[:, 0]))
        counts_t = np.bincount(places_m2[:, 0], minlength=len(scored.counts_t))
        return replace(
            scored,
            counts_t=counts_t.astype(np.int32),
            token_ids=places_m2[order_m, 1].astype(np.int32),
            logprobs=logprobs_m[order_m].astype(np.float32),
        )


class ExpertWithOtherEnds:
    """An expert whose answers end as the student's responses do."""

    def __init__(self, expert: Expert, ends: OtherEnds):
        self.needs_feedback = expert.needs_feedback
        self._expert = expert
        self._ends = ends

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """See the contract."""
        return [
            replace(answer, distribution=self._ends.in_distribution(answer.distribution))
            for answer in self._expert.answer(queries, progress)
        ]
