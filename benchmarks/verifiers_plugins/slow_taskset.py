"""The tool of `benchmarks.slow_tool` as an environment of the verifiers library, written as its own
are: it waits without holding a thread."""

import asyncio
from collections.abc import Iterator

import verifiers.v1 as vf

from benchmarks.slow_tool import answer

__all__ = ["SlowEnv", "SlowTaskset"]


class SlowTasksetConfig(vf.TasksetConfig):
    """How many tasks."""

    num_tasks: int = 1


class SlowTaskset(vf.Taskset[vf.Task[vf.TaskData], SlowTasksetConfig]):
    """Tasks without rewards."""

    def load(self) -> Iterator[vf.Task[vf.TaskData]]:
        """Their prompts are numbers."""
        for number in range(self.config.num_tasks):
            yield vf.Task(vf.TaskData(prompt=f"{number}"), self.config.task)


class SlowEnvConfig(vf.EnvConfig):
    """As the options of `benchmarks.slow_tool`."""

    policy: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"})
    delay_s: float = 0.0
    num_answers: int = 3


class SlowEnv(vf.Env[SlowEnvConfig]):
    """Whatever the policy writes, it is answered with digits."""

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """One rollout."""
        async with agents.policy.interaction(task) as interaction:
            await interaction.turn()
            for number in range(1, self.config.num_answers + 1):
                await asyncio.sleep(self.config.delay_s)
                await interaction.turn(answer(number))
