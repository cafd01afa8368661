"""The contract of a problem source that demonstrates turn by turn, for a warm start in an
environment."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from distil_core.problems.base import Problem, ProblemSource


class TurnSoFar(NamedTuple):
    """An action, and what its environment answered, as the policy reads it."""

    action: str
    observation: str


class PlayedTurn(Protocol):
    """A turn in any form that says what was done, and what was read then; None at the end."""

    @property
    def action(self) -> str: ...

    @property
    def observation(self) -> str | None: ...


def turns_so_far(turns: Sequence[PlayedTurn]) -> tuple[TurnSoFar, ...]:
    """As those who know the right action are told of them."""
    return tuple(TurnSoFar(turn.action, turn.observation or "") for turn in turns)


@runtime_checkable
class SupervisedTurnSource(ProblemSource, Protocol):
    """A source that also makes the actions on which a base policy is warm-started in an
    environment; what answers them is the environment itself. turns: all turns so far."""

    def demonstrated_action(
        self, problem: Problem, turns: Sequence[TurnSoFar], random: np.random.Generator
    ) -> str:
        """What a demonstrator does next, with a demonstrator's errors."""
        ...

    def corrupted_action(
        self, problem: Problem, turns: Sequence[TurnSoFar], random: np.random.Generator
    ) -> str:
        """What an unskilled student does next: sometimes right, often not."""
        ...

    def oracle_action_characters(
        self, problem: Problem, turns: Sequence[TurnSoFar], action: str
    ) -> str:
        """The right next character at each state along `action`, after these turns, right or wrong:
        one for each of its characters and one more; fewer only where the right action ends
        earlier."""
        ...
