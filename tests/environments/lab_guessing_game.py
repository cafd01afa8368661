"""A taskset with an environment of its own, for tests: a number is guessed over several turns.

After a wrong guess a digit is drawn from Python's own generator, as some environments do.
"""

import random
from collections.abc import Iterator

import verifiers.v1 as vf

__all__ = ["GuessingEnv", "GuessingTaskset"]


class GuessingData(vf.TaskData):
    answer: str


class GuessingState(vf.State):
    num_guesses: int = 0


class GuessingTask(vf.Task[GuessingData, GuessingState]):
    async def setup(self, trace: vf.Trace) -> None:  # type: ignore[override]
        trace.state.num_guesses = 1

    @vf.stop
    async def gave_up(self, trace: vf.Trace) -> bool:
        return trace.last_reply == "none"

    @vf.reward
    async def guessed(self, task: GuessingData, trace: vf.Trace) -> float:
        return 1.0 if trace.last_reply == task.answer else -1.0

    @vf.metric
    async def num_guesses(self, trace: vf.Trace) -> float:
        return float(trace.state.num_guesses)


class GuessingConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"}, max_turns=4)


class GuessingEnv(vf.Env[GuessingConfig]):
    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn()
            while not segment.terminated and segment.last_reply != task.data.answer:
                interaction.trace.state.num_guesses += 1
                drawn = random.randrange(10**6)
                segment = await interaction.turn(f"no, {segment.last_reply[:10]!r}, {drawn}")

    async def finalize(self, task: vf.Task, episode: vf.Episode) -> None:
        (trace,) = episode.traces
        trace.record_reward("num_turns", trace.num_turns, weight=0.0)


class GuessingTaskset(vf.Taskset[GuessingTask, vf.TasksetConfig]):
    INFINITE = True

    def load(self) -> Iterator[GuessingTask]:
        number = 0
        while True:
            data = GuessingData(prompt=f"Guess no. {number}", answer=str(number * 7 % 10))
            yield GuessingTask(data, self.config.task)
            number += 1
