"""An environment of the verifiers library (an extra of this project), its rewards as the verdict.

It plays the tasks of the problem source of the same name.
"""

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from distil_core.environments.base import Environment, EnvironmentOptions, FeedbackItem, Step
from distil_core.errors import EnvironmentFault
from distil_core.problems.base import Problem
from distil_core.problems.verifiers_library import (
    PromptMessage,
    TasksetOptions,
    load_environment,
    messages_read_first,
    task_of,
)

if TYPE_CHECKING:
    from verifiers.v1 import Env, Trace

    from distil_core.environments._verifiers_exchange import Exchange

_SLACK = 1e-9
"""Of a sum of weighted rewards, which is a little beside what it should be."""


class Options(TasksetOptions, EnvironmentOptions):
    """An environment of the library verifiers that is text alone, for one agent."""

    environment: str = ""
    """The environment's id, where it is not the taskset's own (or the library's for one reply to
    one prompt)."""
    environment_arguments: dict[str, Any] = Field(default_factory=dict)
    """The environment's own settings."""
    reward_range: tuple[float, float] = (0.0, 1.0)
    """The least and the greatest sum of weighted rewards that a task gives: these become 0 and 1,
    and what is between them accordingly. A sum outside is the rollout's error."""
    correct_from: float = Field(default=1.0, ge=0, le=1)
    """The least reward, from 0 to 1, that is a correct answer."""
    shown_scores: tuple[str, ...] = ()
    """Rewards and metrics, by name, that the expert reads as feedback of kind tool_output. Only
    those that give nothing of a solution away."""

    @model_validator(mode="after")
    def _is_range(self) -> "Options":
        low, high = self.reward_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError("reward_range: expected two numbers, the lesser first")
        return self

    @property
    def judges(self) -> bool:
        """By the task's rewards."""
        return True


class VerifiersEnvironment(Environment):
    """Each message that the library's environment sends its agent is an observation. The rewards of
    the task, and what the environment adds to them, are the rollout's."""

    def __init__(self, options: Options):
        self._options = options
        self._environment: Env[Any] = load_environment(
            options, options.environment, options.environment_arguments
        )
        from distil_core.environments._verifiers_refusals import require_drivable

        require_drivable(self._environment)
        self._exchange: Exchange | None = None

    def start(self, problem: Problem, seed: int) -> None:
        """Raises `EnvironmentFault` for a problem that is no task of this taskset, or one that its
        environment begins with another prompt."""
        from distil_core.environments._verifiers_exchange import Exchange

        self.close()
        try:
            task = task_of(problem, self._environment.taskset)
            expected = messages_read_first(task)
        except ValueError as error:
            raise EnvironmentFault(f"problem {problem.problem_id}: {error}") from error
        self._exchange = Exchange(self._environment, task, seed)
        found = self._exchange.opening()
        if found != expected:
            raise EnvironmentFault(
                f"problem {problem.problem_id}: the verifiers environment begins with another "
                f"prompt than its task has: {_text(found)[:200]!r}"
            )

    def step(self, action: str) -> Step:
        """Reply with the action."""
        from distil_core.environments._verifiers_exchange import Asked

        if self._exchange is None:
            raise EnvironmentFault("the verifiers environment was not started")
        # The library keeps what is said as UTF-8, which has no lone surrogates.
        found = self._exchange.reply(action.encode("utf-8", "backslashreplace").decode("utf-8"))
        if isinstance(found, Asked):
            return Step(_text(found.messages))
        self.close()
        return self._judged(found.trace)

    def close(self) -> None:
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def _judged(self, trace: "Trace") -> Step:
        reward = self._reward(trace)
        return Step(
            None,
            reward=reward,
            verdict="correct" if reward >= self._options.correct_from - _SLACK else "wrong",
            feedback=self._feedback(trace),
        )

    def _reward(self, trace: "Trace") -> float:
        if not trace.rewards or (missing := [k for k, v in trace.rewards.items() if v is None]):
            names = ", ".join(missing) if trace.rewards else "none at all"
            raise EnvironmentFault(f"the task gave no value for its rewards: {names}")
        low, high = self._options.reward_range
        reward = (trace.reward - low) / (high - low)
        if not -_SLACK <= reward <= 1 + _SLACK:
            raise EnvironmentFault(
                f"the rewards of a task sum to {trace.reward:g}, expected {low:g} to {high:g}: "
                "set reward_range of the environment verifiers to what they may be"
            )
        return min(1.0, max(0.0, reward))

    def _feedback(self, trace: "Trace") -> tuple[FeedbackItem, ...]:
        rewards = {name: each.score for name, each in trace.rewards.items() if each is not None}
        scores = {**trace.metrics, **rewards}
        shown = self._options.shown_scores
        if absent := [name for name in shown if scores.get(name) is None]:
            raise EnvironmentFault(
                f"shown_scores names {', '.join(absent)}; the task has {', '.join(sorted(scores))}"
            )
        lines = [f"{name}: {scores[name]:g}" for name in shown]
        return (FeedbackItem("tool_output", "\n".join(lines)),) if lines else ()


def _text(messages: tuple[PromptMessage, ...]) -> str:
    """What the policy reads of an environment's messages."""
    return "\n\n".join(message.content for message in messages)


def build(options: Options) -> VerifiersEnvironment:
    """The environment, by name from the registry."""
    return VerifiersEnvironment(options)
