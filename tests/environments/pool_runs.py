"""Rollouts of given actions through a pool."""

from collections.abc import Sequence
from typing import Any

from distil_core.config.models import EnvironmentParams
from distil_core.environments.base import Step
from distil_core.environments.pool import EnvironmentPool, StepJob, StepOutcome
from distil_core.problems.base import Problem


def params(
    name: str = "lab_environments.scripted", timeout_s: float | None = 120.0, **options: Any
) -> EnvironmentParams:
    return EnvironmentParams(
        name=name,
        options=options,
        max_turns=64,
        max_observation_tokens=1000,
        step_timeout_s=timeout_s,
    )


def rollouts(
    environment: EnvironmentParams,
    scripts: Sequence[Sequence[str]],
    num_workers: int = 2,
    prompts: Sequence[str] | None = None,
) -> list[list[StepOutcome]]:
    """What each rollout's actions lead to, until one ends or fails; all of them at the same
    time."""
    outcomes: list[list[StepOutcome]] = [[] for _ in scripts]
    with EnvironmentPool(environment, num_workers) as pool:

        def ask(rollout: int) -> None:
            actions = tuple(scripts[rollout][: len(outcomes[rollout]) + 1])
            prompt = prompts[rollout] if prompts else f"prompt {rollout}"
            pool.submit(rollout, rollout, StepJob(Problem(prompt, "right"), rollout, actions))

        for rollout in range(len(scripts)):
            ask(rollout)
        while pool.num_pending:
            for rollout, outcome in pool.collect(wait=True):
                outcomes[rollout].append(outcome)
                goes_on = isinstance(outcome, Step) and not outcome.is_done
                if goes_on and len(outcomes[rollout]) < len(scripts[rollout]):
                    ask(rollout)
    return outcomes


def plain(outcomes: Sequence[Sequence[StepOutcome]]) -> list[list[Any]]:
    """Outcomes that can be compared."""
    return [[one if isinstance(one, Step) else str(one) for one in of_one] for of_one in outcomes]
