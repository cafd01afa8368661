"""Rollouts as a program is asked about them: their states, and those without an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from distil_core.errors import ExpertError
from distil_core.experts._program_questions import Failure, Question
from distil_core.experts._turn_query import turns_before
from distil_core.experts.base import ExpertAnswer, ExpertQuery
from distil_core.problems.turns import TurnSoFar


@dataclass
class RolloutToAsk:
    """A query and its states, of one turn where there are several. texts: what was written before
    each token, and at last all. turns: what the program is told of those before; None for one that
    does not follow turns. asked: the states whose answers become labels."""

    query: ExpertQuery
    texts: list[str]
    turns: tuple[TurnSoFar, ...] | None
    asked: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, query: ExpertQuery, texts: list[str], follows_turns: bool) -> RolloutToAsk:
        """follows_turns: the program's."""
        return cls(query, texts, turns_before(query) if follows_turns else None)

    def question(self, state: int) -> Question:
        """What the program is asked before the token `state`."""
        problem = self.query.problem
        if problem is None:
            raise ExpertError("expert 'program' needs the problem of each rollout, found none")
        return Question(problem, self.texts[state], self.query.values, self.turns)

    @property
    def name(self) -> str:
        """By which its states are drawn: the rollout's, and the turn's after the first."""
        rollout_id = self.query.rollout_id
        return f"{rollout_id}/{len(self.turns)}" if self.turns else rollout_id


def failed_row(rollout: RolloutToAsk, failures: Sequence[tuple[int, Failure]]) -> dict[str, object]:
    """For `expert_failures.jsonl`. failures: by state, at least one."""
    state, first = failures[0]
    of_turn = {} if rollout.turns is None else {"turn": len(rollout.turns)}
    return {
        "rollout_id": rollout.query.rollout_id,
        **of_turn,
        "asked_states": len(rollout.asked),
        "failed_states": [failed for failed, _ in failures],
        "reason": first.reason,
        "error": f"state {state}: {first.message}",
    }


def num_silent(queries: Sequence[ExpertQuery], answers: Sequence[ExpertAnswer]) -> int:
    """Rollouts of which no state has a label, at any turn."""
    spoken = {
        query.rollout_id
        for query, answer in zip(queries, answers, strict=True)
        if not answer.distribution.is_silent
    }
    return len({query.rollout_id for query in queries} - spoken)
