"""What an expert that reads no token ids needs to know of a turn of a rollout in an environment."""

from dataclasses import dataclass

from distil_core.experts.base import ExpertQuery
from distil_core.problems.turns import TurnSoFar


@dataclass(frozen=True)
class TurnQuery(ExpertQuery):
    """One turn to label. response_ids: of this turn. context_ids: the expert's context and all
    tokens of the rollout before the turn. turns: the same turns as texts."""

    turns: tuple[TurnSoFar, ...] = ()


def turns_before(query: ExpertQuery) -> tuple[TurnSoFar, ...]:
    """The turns before the one that is asked about; none of a single response."""
    return query.turns if isinstance(query, TurnQuery) else ()
