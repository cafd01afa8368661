"""Checks of an environment: what it answers to right, wrong and senseless actions, and whether it
answers the same again."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from types import ModuleType
from typing import Any, get_args
from unittest import SkipTest

from distil_core.config.models import EnvironmentParams
from distil_core.environments import ENVIRONMENTS
from distil_core.environments.base import Environment, EnvironmentOptions, Step
from distil_core.environments.pool import EnvironmentPool, StepJob
from distil_core.errors import EnvironmentFault
from distil_core.problems.base import Problem
from distil_core.testing.checks import Check, CheckFailedError, require, require_all_passed
from distil_core.testing.contract import Subject, contract_checks
from distil_core.testing.junk import JUNK, LONG, NO_ANSWERS
from distil_core.testing.well_formed import require_feedback, require_reward
from distil_core.verifiers.base import Verdict

_NUM_PROBLEMS = 3
_SEEDS = (1, 2)
_MOST_TURNS = 8


class _EnvironmentSubject(Subject[EnvironmentOptions, Environment]):
    def __init__(
        self,
        component: str | ModuleType,
        options: Mapping[str, Any] | None,
        problems: Sequence[Problem],
        actions: Sequence[str],
    ):
        super().__init__(ENVIRONMENTS, component, options)
        self.problems, self.actions = problems, actions

    def rollouts(self) -> list[tuple[Problem, int, list[str]]]:
        """Problem, seed and actions of each rollout that it is tried with: the actions given, one
        after another, and junk."""
        if not self.problems:
            raise SkipTest("no problems to start with: name a source of them (--source)")
        junk = [*NO_ANSWERS, *JUNK, LONG]
        scripts = [junk[start::4][:_MOST_TURNS] for start in range(4)]
        scripts += [list(self.actions)] if self.actions else []
        return [
            (problem, seed, script)
            for problem in self.problems[:_NUM_PROBLEMS]
            for seed in _SEEDS
            for script in scripts
        ]

    def played(self, environment: Environment) -> list[list[Step]]:
        """The steps of all rollouts, each until it is done."""
        return [_steps(environment, *rollout) for rollout in self.rollouts()]


def environment_checks(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    actions: Sequence[str] = (),
) -> list[Check]:
    """The checks of an environment, named as in settings, with these options.

    problems: some that it can start with; without any, most checks cannot be run. actions: of one
    rollout, in the form that it reads, to be tried beside junk.
    """
    subject = _EnvironmentSubject(component, options, problems, actions)

    return [
        *contract_checks(subject),
        subject.check(
            "no action makes it raise, and each is answered with a step that can be stored",
            _answers_anything,
            "an action that makes no sense has an observation that says so; EnvironmentFault is "
            "for reasons that are not the action's",
        ),
        subject.check(
            "it judges where its options say so, and only at the end",
            _judges_as_told,
            "override the property `judges` of your Options; give a verdict and a reward with the "
            "last step, and none before",
        ),
        subject.check(
            "the same problem, seed and actions lead to the same steps, whatever went on before",
            _is_replayed,
            "let `start` forget everything, and draw from the seed alone",
        ),
        subject.check(
            "a process of its own answers as this one does, from the first action or a later one",
            _answers_in_workers,
            "make the module importable there, and steps independent of the process and the time",
        ),
        subject.check(
            "it can be closed twice",
            _closes_twice,
            "release what is held only where it still is",
        ),
    ]


def check_environment(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    actions: Sequence[str] = (),
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    checks = environment_checks(component, options, problems, actions)
    require_all_passed(f"environment {component!s}", checks)


def _steps(
    environment: Environment, problem: Problem, seed: int, actions: Sequence[str]
) -> list[Step]:
    try:
        environment.start(problem, seed)
    except Exception as error:
        raise CheckFailedError(
            f"it does not start with {problem.prompt[:60]!r}: {type(error).__name__}: {error}"
        ) from error
    steps: list[Step] = []
    for action in actions:
        try:
            step = environment.step(action)
        except Exception as error:
            raise CheckFailedError(
                f"on the action {action[:60]!r}, turn {len(steps)} with {problem.prompt[:60]!r}, "
                f"it raised {type(error).__name__}: {error}"
            ) from error
        steps.append(step)
        if not isinstance(step, Step) or step.is_done:
            break
    return steps


def _answers_anything(subject: _EnvironmentSubject) -> None:
    with closing(subject.build()) as environment:
        played = subject.played(environment)
    for (_, _, actions), steps in zip(subject.rollouts(), played, strict=True):
        for action, step in zip(actions, steps, strict=False):
            _require_well_formed(step, action)


def _require_well_formed(step: object, action: str) -> None:
    where = f"on the action {action[:60]!r}"
    if not isinstance(step, Step):
        raise CheckFailedError(f"{where} it returned {type(step).__name__}, expected a Step")
    observation = step.observation
    require(
        observation is None or isinstance(observation, str),
        f"{where} the observation is {observation!r:.80}, expected text or None",
    )
    if step.reward is not None:
        require_reward(step.reward, where, "None or a number in [0, 1]")
    require(isinstance(step.feedback, tuple), f"{where} feedback is no tuple")
    require_feedback(step.feedback, where)


def _judges_as_told(subject: _EnvironmentSubject) -> None:
    with closing(subject.build()) as environment:
        played = subject.played(environment)
    for step in (step for steps in played for step in steps):
        if step.is_done and subject.options.judges:
            require(
                step.verdict in get_args(Verdict) and step.reward is not None,
                f"a rollout ends with the verdict {step.verdict!r} and the reward {step.reward!r}",
            )
        else:
            when = "at the end" if step.is_done else "before the end"
            require(step.verdict is None, f"there is a verdict {when}: {step.verdict!r}")


def _is_replayed(subject: _EnvironmentSubject) -> None:
    rollouts = subject.rollouts()
    with closing(subject.build()) as environment:
        first = [_steps(environment, *rollout) for rollout in rollouts]
        again = [_steps(environment, *rollout) for rollout in reversed(rollouts)][::-1]
    for (problem, _, actions), one, two in zip(rollouts, first, again, strict=True):
        require(
            one == two,
            f"to {actions[0][:60]!r} and on, with {problem.prompt[:60]!r}, it answered "
            f"{one!r:.200}, and after other rollouts {two!r:.200}",
        )


def _answers_in_workers(subject: _EnvironmentSubject) -> None:
    params = EnvironmentParams(
        name=subject.name, options=subject.values, max_turns=2, max_observation_tokens=1
    )
    rollouts = subject.rollouts()
    with closing(subject.build()) as environment:
        here = [_steps(environment, *rollout) for rollout in rollouts]
    with EnvironmentPool(params, 2) as pool:
        for tag, ((problem, seed, actions), steps) in enumerate(zip(rollouts, here, strict=True)):
            pool.submit(tag, tag, StepJob(problem, seed, tuple(actions[: len(steps)])))
        while pool.num_pending:
            for tag, outcome in pool.collect(wait=True):
                if isinstance(outcome, EnvironmentFault):
                    raise CheckFailedError(f"a process of its own fails: {outcome}")
                require(
                    outcome == here[tag][-1],
                    f"at the end of {len(here[tag])} actions a process of its own answers "
                    f"{outcome!r:.200}, this one {here[tag][-1]!r:.200}",
                )


def _closes_twice(subject: _EnvironmentSubject) -> None:
    environment = subject.build()
    environment.close()
    environment.close()
