"""The contract of an engine: token ids in, token ids and log-probabilities out. Never text."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from distil_core.errors import EngineError
from distil_core.progress import ProgressCallback
from distil_core.registry import ComponentOptions


class EngineOptions(ComponentOptions):
    """Base of an engine's `Options`."""

    @property
    def largest_top_k(self) -> int | None:
        """The most ids that it can return at a position when scoring; None where it has no limit of
        its own."""
        return None


@dataclass(frozen=True)
class SampleRequest:
    """One rollout to draw. seed: belongs to this rollout alone, so that its random numbers depend
    neither on its batch nor on the order of the requests."""

    context_ids: Sequence[int]
    seed: int


@dataclass(frozen=True)
class SamplingSettings:
    """The sampler's distribution: temperature first, then the fewest tokens that hold `top_p`."""

    max_new_tokens: int
    temperature: float
    top_p: float


@dataclass(frozen=True)
class SampledResponse:
    """token_ids: with the end token where finish_reason is 'stop'. behaviour_logprobs: of each
    token, under the distribution really sampled from (temperature and top_p included).

    error: why this one request has no response, with finish_reason 'error' and no tokens; None
    for all others. An engine that cannot answer at all raises instead.
    """

    token_ids: list[int]
    behaviour_logprobs: list[float]
    finish_reason: Literal["stop", "length", "error"]
    error: str | None = None

    @classmethod
    def failed(cls, error: str) -> "SampledResponse":
        """In place of a response to a request that the engine could not answer."""
        return cls([], [], "error", error)


def require_responses(responses: Sequence[SampledResponse]) -> None:
    """Raise `EngineError` where more than a tenth of the requests failed (one may always): that is
    the engine's failure, not that of single rollouts."""
    errors = [response.error for response in responses if response.error is not None]
    allowed = min(max(1, len(responses) // 10), len(responses) - 1)
    if errors and len(errors) > allowed:
        raise EngineError(
            f"the engine failed on {len(errors)} of {len(responses)} requests, at most {allowed} "
            f"may fail; the first says: {errors[0]}"
        )


@dataclass(frozen=True)
class ScoreRequest:
    """A response to score, token by token, in the given context."""

    context_ids: Sequence[int]
    response_ids: Sequence[int]


@dataclass(frozen=True)
class ScoredResponse:
    """The distribution at each of the response's T positions, flattened position by position.

    counts_t: int32 [T], ids stored at each position, most likely first. token_ids, logprobs:
    int32 and float32 [sum(counts)]. tail_logprobs_t: float32 [T], log of the remaining mass,
    `-inf` where nothing remains (docs/method.md#stored-distribution).
    """

    counts_t: NDArray[np.int32]
    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    tail_logprobs_t: NDArray[np.float32]

    @classmethod
    def silent(cls, length: int) -> "ScoredResponse":
        """Of so many positions, without a distribution at any of them."""
        return cls(
            np.zeros(length, np.int32),
            np.empty(0, np.int32),
            np.empty(0, np.float32),
            np.full(length, -np.inf, np.float32),
        )

    @property
    def is_silent(self) -> bool:
        """Whether there is no distribution at any position: no ids and no tail."""
        return not self.counts_t.any() and not np.isfinite(self.tail_logprobs_t).any()


@runtime_checkable
class Engine(Protocol):
    """Samples and scores with one policy. Results are in the order of the requests, and each
    depends on its own request alone, not on the order or number of the others."""

    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        progress: ProgressCallback,
    ) -> list[SampledResponse]:
        """Draw one response for each request, with the request's own seed."""
        ...

    def score(
        self,
        requests: Sequence[ScoreRequest],
        top_k: int,
        top_p: float,
        progress: ProgressCallback,
    ) -> list[ScoredResponse]:
        """The policy's distribution at each token of each response, without temperature: the fewest
        ids that hold `top_p` of the mass, at most `top_k`, and the tail."""
        ...


@runtime_checkable
class MonitoredEngine(Engine, Protocol):
    """An engine that computes log-probabilities in another way than training, and reports how far
    the two are apart."""

    def drift(self) -> dict[str, float]:
        """Figures of the last call of `sample`, under their names in metrics.json."""
        ...


@runtime_checkable
class ContinuingEngine(Engine, Protocol):
    """An engine that can keep what it computed from one call of `sample` to the next."""

    def continuing(self) -> AbstractContextManager[Engine]:
        """The engine to use within this context. Where a request's context begins with tokens that
        it has read or sampled there, it need not compute these again; which it still knows is found
        by their ids. All that was kept is released at the end. As a call may be of a few requests
        only, it is for who calls to decide how many may fail."""
        ...


def continuing(engine: Engine) -> AbstractContextManager[Engine]:
    """`engine.continuing()` where the engine has it, else the engine itself: for a loop whose
    requests continue what earlier ones sampled."""
    return engine.continuing() if isinstance(engine, ContinuingEngine) else nullcontext(engine)
