"""The contract of an environment: it answers what a policy does, turn after turn."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.sandbox.limits import Isolation
from distil_core.verifiers.base import FeedbackItem, Verdict

__all__ = ["Environment", "EnvironmentOptions", "FeedbackItem", "Step", "Verdict"]


class EnvironmentOptions(ComponentOptions):
    """Base of an environment's `Options`."""

    @property
    def judges(self) -> bool:
        """Whether the environment itself gives reward and verdict when a rollout ends. Otherwise
        consult.verifier judges the text of the last turn."""
        return False

    @property
    def tool_schemas(self) -> tuple[Mapping[str, Any], ...]:
        """Of the tools that a policy may call, in OpenAI's form, where it has any that are known
        before it starts."""
        return ()

    @property
    def runs_code_under(self) -> Isolation | None:
        """The isolation under which it runs code that the policy wrote; None where it runs none."""
        return None


@dataclass(frozen=True)
class Step:
    """What became of one action.

    observation: what the policy reads next; None where the rollout ends with this action. reward:
    in [0, 1], of this action alone; None where there is none. verdict: of the whole rollout, where
    it ends here and the environment judges it; its reward is then the rollout's. feedback: on this
    action, never with the reference solution. is_marked: whether this was a decision that matters
    (`train.decisions`). isolation: under which code of the action ran; None where none ran.
    """

    observation: str | None
    reward: float | None = None
    verdict: Verdict | None = None
    feedback: tuple[FeedbackItem, ...] = ()
    is_marked: bool = False
    isolation: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether the rollout ends here."""
        return self.observation is None


class Environment(ABC):
    """One rollout's world. The policy first reads the problem's prompt; then `step` answers each of
    its turns, until one has no answer.

    An environment is made anew wherever it is needed, and its actions so far are done again: the
    same problem, seed and actions must lead to the same steps in any process. It may hold processes
    and files, which are its own: nothing of one rollout may reach another.
    """

    @abstractmethod
    def start(self, problem: Problem, seed: int) -> None:
        """Begin a rollout, whatever went on before. seed: of this rollout alone. Raises
        `EnvironmentFault` for a problem that is none of this environment's."""

    @abstractmethod
    def step(self, action: str) -> Step:
        """Answer the policy's turn, whatever its text (without its end token): an action that makes
        no sense has an observation that says so. Raises nothing but `EnvironmentFault`, which means
        that there is no answer for a reason outside the action: it is no wrong answer."""

    def close(self) -> None:  # noqa: B027 - many hold nothing to release
        """Release processes and files. May be called more than once."""
