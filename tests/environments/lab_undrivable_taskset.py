"""A taskset for tests whose tasks need what there is not: a tool server, a judge, a runtime.

Its settings say which of them.
"""

from collections.abc import Iterator

import verifiers.v1 as vf

__all__ = ["NeedyEnv", "NeedyTaskset"]


class NeedyTaskConfig(vf.TaskConfig):
    tools: bool = False
    kind: str = "plain"
    """Of the task that the environment plays."""


class Notes(vf.Toolset[vf.ToolsetConfig]):
    @vf.tool
    async def note(self, text: str) -> str:
        """Keep a note."""
        return text


class NeedyTask(vf.Task[vf.TaskData, vf.State, NeedyTaskConfig]):
    @classmethod
    def toolsets(cls, config: NeedyTaskConfig) -> list[vf.Toolset]:
        return [Notes(vf.ToolsetConfig())] if config.tools else []

    @vf.reward
    async def said(self, trace: vf.Trace) -> float:
        if trace.last_reply == "crash":
            raise ValueError("a defect of the reward")
        return float(trace.last_reply == "yes")


class RuntimeTask(NeedyTask):
    @vf.reward
    async def file_written(self, trace: vf.Trace, runtime: vf.Runtime) -> float:
        return float(await runtime.alive())


class RewritingTask(NeedyTask):
    @vf.intercept
    async def louder(self, request: vf.Request) -> vf.Request:
        return request


class RequestStopTask(NeedyTask):
    @vf.stop
    async def is_long(self, request: vf.Request) -> bool:
        return len(request.messages) > 3


KINDS = {
    "plain": NeedyTask,
    "runtime": RuntimeTask,
    "rewriting": RewritingTask,
    "request_stop": RequestStopTask,
}


class NeedyConfig(vf.EnvConfig):
    agent: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"})
    attempts: int = 1


class NeedyEnv(vf.Env[NeedyConfig]):
    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        played = KINDS[task.config.kind](task.data, task.config)
        for _ in range(self.config.attempts):
            await agents.agent.run(played)


class NeedyTasksetConfig(vf.TasksetConfig):
    task: NeedyTaskConfig = NeedyTaskConfig()


class NeedyTaskset(vf.Taskset[NeedyTask, NeedyTasksetConfig]):
    def load(self) -> Iterator[NeedyTask]:
        for number in range(3):
            yield NeedyTask(vf.TaskData(prompt=f"Are you number {number}?"), self.config.task)
