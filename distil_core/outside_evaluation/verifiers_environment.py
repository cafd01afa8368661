"""A campaign's problems, environment and verifier as a taskset and an environment of verifiers.

A module of the user's own exports both, and its name is the taskset's id there.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from verifiers import v1 as vf

from distil_core.campaign.load import load_params_file
from distil_core.config.models import Params
from distil_core.environments import build_environment
from distil_core.environments.base import Environment, FeedbackItem, Step
from distil_core.problems.base import Problem
from distil_core.problems.messages import prompt_of
from distil_core.problems.splits import campaign_problems
from distil_core.seeds import derive_seed
from distil_core.verifiers import build_verifier

__all__ = ["DistilEnv", "DistilTaskset"]


class DistilTasksetConfig(vf.TasksetConfig):
    """Which campaign's problems."""

    settings: Path = Path("params.yaml")
    """A settings file, or the name of a preset."""
    split: Literal["eval", "train", "warm_start", "generalisation"] = "eval"
    """Of the campaign's problems."""


class DistilData(vf.TaskData):
    """A problem."""

    problem_prompt: str
    reference: str
    metadata: str


class DistilTask(vf.Task[DistilData, vf.State, vf.TaskConfig]):
    """Judged by `DistilEnv`, since an environment's verdict is of the turns and not of a text."""


class DistilTaskset(vf.Taskset[DistilTask, DistilTasksetConfig]):
    """The problems of one split, the very ones that the campaign makes. A policy reads a problem's
    own prompt: `context.student_template` is the campaign's alone."""

    def load(self) -> Iterator[DistilTask]:
        """Raises `ConfigError` and `DataError` as a campaign does."""
        params = load_params_file(self.config.settings)
        with closing(build_verifier(params.consult)) as verifier:
            splits = campaign_problems(params, verifier.check_problem).splits
        for problem in splits[self.config.split]:
            yield DistilTask(_data(problem), self.config.task)


def _data(problem: Problem) -> DistilData:
    prompt = prompt_of(problem)
    return DistilData(
        id=problem.problem_id,
        prompt=prompt
        if isinstance(prompt, str)
        else [
            {"system": vf.SystemMessage, "user": vf.UserMessage, "assistant": vf.AssistantMessage}[
                message.role
            ](content=message.content)
            for message in prompt
        ],
        problem_prompt=problem.prompt,
        reference=problem.reference,
        metadata=problem.metadata,
    )


class DistilEnvConfig(vf.EnvConfig):
    """The one agent that acts."""

    policy: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"})


class DistilEnv(vf.Env[DistilEnvConfig]):
    """`context.environment` answers the agent's turns; without one, its first is the last. A
    rollout that would need more turns than `max_turns` has the reward 0.

    The trace has the reward by the name `reward`, the metric `is_correct`, and in `info` the
    verdict and the feedback. What fails is the episode's error, and no reward.
    """

    def __init__(self, config: DistilEnvConfig):
        super().__init__(config)
        if not isinstance(self.taskset, DistilTaskset):
            raise TypeError("DistilEnv plays the tasks of DistilTaskset alone")
        self._params = cache(lambda: load_params_file(config.taskset.settings))

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """One rollout. Its environment and verifier are made and used in a thread of their own."""
        params = await asyncio.to_thread(self._params)
        with ThreadPoolExecutor(1) as thread:
            world = _World(params, task.data)
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(thread, world.start)
                async with agents.policy.interaction(task) as interaction:
                    segment = await interaction.turn()
                    while not segment.terminated:
                        action = _text(segment)
                        found = await loop.run_in_executor(thread, world.answer, action)
                        if isinstance(found, _Judged):
                            break
                        segment = await interaction.turn(found)
                    else:
                        found = _CUT
            finally:
                await loop.run_in_executor(thread, world.close)
        trace = interaction.trace
        if trace.ok:
            trace.record_reward("reward", found.reward)
            trace.record_metric("is_correct", float(found.verdict == "correct"))
            trace.info["verdict"] = found.verdict
            trace.info["feedback"] = [[item.kind, item.text] for item in found.feedback]


class _Judged(NamedTuple):
    """How a rollout ended."""

    reward: float
    verdict: str
    feedback: tuple[FeedbackItem, ...] = ()


_CUT = _Judged(0.0, "truncated")


def _text(segment: vf.Segment) -> str:
    """What the policy said, as it said it: `last_reply` is without the spaces around it."""
    return next(
        (
            message.content or ""
            for message in reversed(segment.messages)
            if isinstance(message, vf.AssistantMessage)
        ),
        "",
    )


class _World:
    """A problem's environment and verifier."""

    def __init__(self, params: Params, data: DistilData):
        self._params = params
        self._problem = Problem(data.problem_prompt, data.reference, data.metadata)
        self._environment: Environment | None = None
        self._feedback: list[FeedbackItem] = []
        self._num_turns = 0

    def start(self) -> None:
        """Begin, where the campaign has an environment."""
        settings = self._params.context.environment
        if settings is not None:
            self._environment = build_environment(settings)
            seed = derive_seed(self._params.seed, "verifiers", self._problem.problem_id)
            self._environment.start(self._problem, seed)

    def answer(self, action: str) -> str | _Judged:
        """What the policy reads next, or how it ended."""
        settings = self._params.context.environment
        if settings is None or self._environment is None:
            return self._verified(action)
        self._num_turns += 1
        step = self._environment.step(action)
        self._feedback += step.feedback
        if step.observation is None:
            return self._own(step) or self._verified(action)
        if self._num_turns == settings.max_turns:
            return _CUT
        return settings.observation_template.replace("{observation}", step.observation)

    def close(self) -> None:
        """End the environment."""
        if self._environment is not None:
            self._environment.close()

    def _own(self, step: Step) -> _Judged | None:
        if step.verdict is None or step.reward is None:
            return None
        return _Judged(step.reward, step.verdict, tuple(self._feedback))

    def _verified(self, action: str) -> _Judged:
        with closing(build_verifier(self._params.consult)) as verifier:
            found = verifier.verify(self._problem, action)
        return _Judged(found.reward, found.verdict, (*self._feedback, *found.feedback))
