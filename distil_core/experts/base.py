"""The contract of an expert: what it would do at each state the student visited."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from distil_core.engines.base import ScoredResponse
from distil_core.feedback.compose import Segment
from distil_core.progress import ProgressCallback


@dataclass(frozen=True)
class ExpertQuery:
    """One rollout to label. context: the expert's, with the feedback in it. response_ids: the
    student's own tokens; the expert answers at each state along them."""

    context: Sequence[Segment]
    response_ids: Sequence[int]


@dataclass(frozen=True)
class ExpertAnswer:
    """context_ids: the tokens the expert read, kept for audit."""

    context_ids: list[int]
    distribution: ScoredResponse


class Expert(Protocol):
    """Says what it would do at each state along a student's response."""

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """One answer a query, in order. Raises `ExpertError` when the expert cannot be asked."""
        ...
