"""One episode of a verifiers environment in which the policy's actions stand for a model's replies.

The environment's own `run` goes on until it asks its agent for a reply. There it waits: what it has
said is the observation, and the next action is the reply.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from verifiers.v1 import (
    Agents,
    AssistantMessage,
    Env,
    EnvInfo,
    Episode,
    EvalClientConfig,
    ModelContext,
    Response,
    Segment,
    State,
    Task,
    Trace,
    TraceTask,
    UserMessage,
)
from verifiers.v1.configs.agent import AgentConfig
from verifiers.v1.dialects import parse_message
from verifiers.v1.graph import prepare_turn
from verifiers.v1.session import RolloutLimits, RolloutSession
from verifiers.v1.state import state_cls
from verifiers.v1.trace import AgentInfo
from verifiers.v1.types import SystemMessage
from verifiers.v1.utils.decorators import invoke

from distil_core.environments._verifiers_refusals import defect_of_task
from distil_core.errors import DistilError, EnvironmentFault
from distil_core.problems.verifiers_library import PromptMessage, messages_read_first, text_of


class Asked(NamedTuple):
    """What the policy reads before its next turn."""

    messages: tuple[PromptMessage, ...]


class Ended(NamedTuple):
    """The agent's trace, scored."""

    trace: Trace


class Exchange:
    """An episode, from one reply of the policy to the next. Every method raises `EnvironmentFault`
    where the environment or the task fails.

    Numbers of Python's own generator are drawn from the seed, whatever other episodes of this
    process draw between.
    """

    def __init__(self, environment: Env[Any], task: Task[Any, Any, Any], seed: int):
        self._environment, self._task = environment, task
        self._loop = asyncio.new_event_loop()
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()
        self._replies: asyncio.Queue[str] = asyncio.Queue()
        self._traces: list[Trace] = []
        self._refusal: EnvironmentFault | None = None
        self._random_state = random.Random(seed).getstate()
        self._episode = self._loop.create_task(self._play())

    def opening(self) -> tuple[PromptMessage, ...]:
        """What the policy reads first."""
        found = self._advance()
        if isinstance(found, Ended):
            raise EnvironmentFault("the verifiers environment ended without a turn of the policy")
        return found.messages

    def reply(self, action: str) -> Asked | Ended:
        """Go on with the policy's turn."""
        self._replies.put_nowait(action)
        return self._advance()

    def close(self) -> None:
        """End the episode where it stands."""
        if self._loop.is_closed():
            return
        self._episode.cancel()
        self._loop.run_until_complete(asyncio.gather(self._episode, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def ask(self, messages: tuple[PromptMessage, ...]) -> str:
        """For the agent: the policy's turn after these messages."""
        self._asked.put_nowait(Asked(messages))
        return await self._replies.get()

    def begun(self, trace: Trace) -> None:
        """For the agent: a run of it begins."""
        if self._traces:
            self._refusal = EnvironmentFault(
                "the verifiers environment runs its agent more than once in an episode, and a "
                "rollout is one run"
            )
            raise self._refusal
        self._traces.append(trace)

    def _advance(self) -> Asked | Ended:
        outside = random.getstate()
        random.setstate(self._random_state)
        try:
            return self._loop.run_until_complete(self._next())
        except DistilError:
            raise
        except Exception as error:
            raise EnvironmentFault(
                f"the verifiers environment failed: {type(error).__name__}: {error}"
            ) from error
        finally:
            self._random_state = random.getstate()
            random.setstate(outside)

    async def _next(self) -> Asked | Ended:
        asked = asyncio.ensure_future(self._asked.get())
        await asyncio.wait({asked, self._episode}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done() and self._refusal is None:
            return asked.result()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        if self._refusal is not None:
            raise self._refusal
        await self._episode
        return Ended(self._traces[0])

    async def _play(self) -> None:
        environment, task = self._environment, self._task
        agents = Agents(environment.config, lambda name, config: _PolicyAgent(self, name, config))
        await environment.setup(agents)
        await environment.run(task, agents)
        if not self._traces:
            return
        episode = Episode(
            env=EnvInfo(id=environment.config.env_id), task=_traced(task), traces=self._traces
        )
        await environment.finalize(task, episode)


def _traced(task: Task[Any, Any, Any]) -> TraceTask[Any]:
    return TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)


class _PolicyAgent:
    """Has of the library's `Agent` what an environment's `run` calls."""

    def __init__(self, exchange: Exchange, name: str, config: AgentConfig):
        self._exchange, self.name, self.config = exchange, name, config
        self.trainable = True

    async def run(self, task: Task[Any, Any, Any], **where: Any) -> Trace:
        """One reply to the task's prompt."""
        async with self.interaction(task, **where) as interaction:
            await interaction.turn()
            if interaction.trace.stop_condition is None:
                interaction.trace.stop("agent_completed")
        return interaction.trace

    @asynccontextmanager
    async def interaction(
        self, task: Task[Any, Any, Any], **where: Any
    ) -> "AsyncIterator[_PolicyInteraction]":
        """Replies, turn after turn, until the environment leaves the context."""
        if asked := [name for name, value in where.items() if value is not None]:
            raise EnvironmentFault(
                f"the verifiers environment hands its agent {', '.join(asked)}, which a policy "
                "that answers in text has no use for"
            )
        if (defect := defect_of_task(task)) is not None:
            raise EnvironmentFault(f"a task of verifiers cannot be played here: {defect}")
        info = AgentInfo(config=self.config, name=self.name, trainable=self.trainable)
        state: State = state_cls(type(task))()
        trace: Trace = Trace(task=_traced(task), state=state, agent=info)
        self._exchange.begun(trace)
        await invoke(task.setup, {"trace": trace, "runtime": None})
        interaction = _PolicyInteraction(self._exchange, task, trace, self.config)
        try:
            yield interaction
        finally:
            interaction.is_closed = True
        trace.stop("user_closed")
        await invoke(task.finalize, {"trace": trace, "runtime": None})
        await task.score(trace)
        trace.ok = True


class _PolicyInteraction:
    """Has of the library's `Interaction` what an environment's `run` calls."""

    def __init__(
        self,
        exchange: Exchange,
        task: Task[Any, Any, Any],
        trace: Trace,
        config: AgentConfig,
    ):
        self._exchange, self._task, self.trace = exchange, task, trace
        self._session = RolloutSession(
            ctx=ModelContext(model="policy", client=EvalClientConfig()),
            trace=trace,
            trace_stops=task.hooks("stop"),
            limits=RolloutLimits(max_turns=config.max_turns),
        )
        self._conversation: list[Any] = []
        self.is_closed = False

    async def turn(self, message: Any = None) -> Segment:
        """As the library's: a bare one takes the reply to the task's prompt."""
        is_prompted = not self._conversation and self._task.data.prompt is not None
        if self.is_closed or is_prompted != (message is None):
            raise EnvironmentFault(
                "the verifiers environment takes a turn out of order: of a task with a prompt the "
                "first is turn(), each other is turn(message), and none is after the last"
            )
        if await self._session.refused() is not None:
            return Segment(messages=[], terminated=True)
        added = self._opening() if is_prompted else _typed(message)
        texts = (
            messages_read_first(self._task)
            if is_prompted
            else tuple(PromptMessage(one.role, text_of(one)) for one in added)
        )
        self._conversation += added
        action = await self._exchange.ask(texts)
        reply = AssistantMessage(content=action)
        number = str(self.trace.num_turns)
        prepare_turn(self.trace, self._conversation).commit(
            Response(id=number, created=0, model="policy", message=reply, finish_reason="stop")
        )
        self._conversation.append(reply)
        return Segment(messages=[reply])

    def _opening(self) -> list[Any]:
        data = self._task.data
        prompt = data.prompt
        messages: list[Any] = (
            [UserMessage(content=prompt)] if isinstance(prompt, str) else list(prompt or [])
        )
        if data.system_prompt is not None:
            messages.insert(0, SystemMessage(content=data.system_prompt))
        return messages


def _typed(message: Any) -> list[Any]:
    if isinstance(message, str):
        return [UserMessage(content=message)]
    return [parse_message(one) if isinstance(one, dict) else one for one in message]
