"""A taskset for tests: one reply to a system message and a sum, two weighted rewards, a metric."""

from collections.abc import Iterator

import verifiers.v1 as vf

__all__ = ["SumTaskset"]


class SumConfig(vf.TasksetConfig):
    split: str = "train"
    image: str | None = None
    """Of a box that every task asks for."""


class SumData(vf.TaskData):
    answer: str


class SumTask(vf.Task[SumData]):
    @vf.reward(weight=0.75)
    async def right(self, task: SumData, trace: vf.Trace) -> float:
        return float(trace.last_reply == task.answer)

    @vf.reward(weight=0.25)
    async def is_number(self, trace: vf.Trace) -> float:
        return float(trace.last_reply.isascii() and trace.last_reply.isdigit())

    @vf.metric
    async def num_characters(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply))


class SumTaskset(vf.Taskset[SumTask, SumConfig]):
    def load(self) -> Iterator[SumTask]:
        first = 10 if self.config.split == "train" else 50
        for number in range(first, first + 20):
            data = SumData(
                prompt=f"{number}+1=",
                system_prompt="Only the number.",
                answer=str(number + 1),
                image=self.config.image,
            )
            yield SumTask(data, self.config.task)
