"""Many samples of an evaluation ask at once; the engine answers what waits in one call."""

from collections import defaultdict
from dataclasses import dataclass

import anyio
import anyio.to_thread

from distil_core.engines.base import Engine, SampledResponse, SampleRequest, SamplingSettings
from distil_core.progress import no_progress

_GATHER_S = 0.05
"""How long the first one waits for others that start with it. No result depends on it."""


@dataclass
class _Waiting:
    request: SampleRequest
    answer: SampledResponse | BaseException | None = None


class BatchedSampling:
    """One call of the engine at a time. Each answer depends on its own request alone, as the
    engine's contract has it."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._waiting: dict[SamplingSettings, list[_Waiting]] = defaultdict(list)
        self._turn = anyio.Lock()

    async def sample(self, request: SampleRequest, settings: SamplingSettings) -> SampledResponse:
        """The engine's response to this request; raises what the engine raises."""
        mine = _Waiting(request)
        self._waiting[settings].append(mine)
        async with self._turn:
            if mine.answer is None:
                await anyio.sleep(_GATHER_S)
                batch = self._waiting.pop(settings)
                await anyio.to_thread.run_sync(self._answer, batch, settings)
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        assert mine.answer is not None
        return mine.answer

    def _answer(self, batch: list[_Waiting], settings: SamplingSettings) -> None:
        try:
            requests = [one.request for one in batch]
            answers = self._engine.sample(requests, settings, no_progress)
            for one, answer in zip(batch, answers, strict=True):
                one.answer = answer
        except BaseException as error:
            for one in batch:
                one.answer = error
