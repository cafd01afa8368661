"""What the three modes share: a place where vLLM has one policy loaded at a time."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distil_core.engines.base import SampleRequest, SamplingSettings

LOWEST_TEMPERATURE = 0.01
"""vLLM silently raises a lower temperature to this one, and takes the likeliest token below 1e-5:
neither would be the distribution whose log-probabilities are stored."""


@dataclass(frozen=True)
class Policy:
    """The state of a checkpoint folder at one time. identity: a digest of its weight files'
    state."""

    folder: Path
    identity: str

    @classmethod
    def of(cls, folder: Path) -> "Policy":
        """The folder's present state. A folder that is written again is another policy."""
        digest = hashlib.blake2b(digest_size=8)
        for file in sorted(folder.glob("*.safetensors")):
            status = file.stat()
            digest.update(repr((file.name, status.st_mtime_ns, status.st_size)).encode())
        return cls(folder.resolve(), f"{folder.resolve()}@{digest.hexdigest()}")


@dataclass(frozen=True)
class ModelLimits:
    """max_logprobs: the largest top K. max_model_len: the most tokens of context and response
    together."""

    vocabulary_size: int
    max_model_len: int
    max_logprobs: int

    @classmethod
    def parse(cls, description: str) -> "ModelLimits":
        """Parse what a worker's `distil_describe` returned."""
        vocabulary_size, max_model_len, max_logprobs = map(int, description.split(",")[:3])
        return cls(vocabulary_size, max_model_len, max_logprobs)


@dataclass(frozen=True)
class Sampled:
    """Sampled tokens, with the end token if it was drawn, and their log-probabilities as vLLM
    reports them."""

    token_ids: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class Unanswered:
    """In place of `Sampled` where vLLM goes on, but has no answer to this one request."""

    error: str


@dataclass(frozen=True)
class TopK:
    """For T positions: ids_tk int32 and logprobs_tk float32 [T, K], most likely first, and tail_t
    float32 [T], the log of the remaining mass."""

    ids_tk: NDArray[np.int32]
    logprobs_tk: NDArray[np.float32]
    tail_t: NDArray[np.float32]


class Backend(Protocol):
    """Samples and scores with the loaded policy. Results are in the order of the requests; progress
    is reported as each one finishes."""

    limits: ModelLimits

    def ensure_loaded(self, policy: Policy, check: Callable[[], object]) -> None:
        """Load this policy unless it is loaded. Where weights change, `check` is called afterwards;
        if it raises, the weights are loaded again the next time."""
        ...

    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        end_token_ids: Sequence[int],
        done: Callable[[int], None],
    ) -> list[Sampled | Unanswered]: ...

    def continuing(self) -> AbstractContextManager[None]:
        """Within it, contexts may begin with what was sampled there, which vLLM has in its prefix
        cache; it is then asked for where that cache is."""
        ...

    def score(
        self, sequences: Sequence[tuple[list[int], int]], top_k: int, done: Callable[[int], None]
    ) -> list[TopK]:
        """The distributions of each token sequence from its position `start` on."""
        ...

    def ended(self) -> bool:
        """Whether it can no longer answer, so that a new one must be started."""
        ...

    def close(self) -> None:
        """End it and everything it started. May be repeated."""
        ...


def sampling_arguments(
    request: SampleRequest, settings: SamplingSettings, end_token_ids: Sequence[int]
) -> dict[str, Any]:
    """Arguments for vLLM's SamplingParams. Sampling ends only at our end tokens, which are read
    from the checkpoint as for every engine."""
    return {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        # vLLM takes 64 bits; on a CPU, torch seeds its generator with the lower 32.
        "seed": request.seed,
        "max_tokens": settings.max_new_tokens,
        "logprobs": 0,
        "detokenize": False,
        "ignore_eos": True,
        "stop_token_ids": list(end_token_ids),
    }


def scoring_arguments(top_k: int) -> dict[str, Any]:
    """Arguments for vLLM's SamplingParams. vLLM must sample at least one token, which is
    discarded."""
    return {"temperature": 1.0, "seed": 0, "max_tokens": 1, "prompt_logprobs": top_k} | {
        "detokenize": False
    }


def split_tails(
    ids: NDArray[np.int64], logprobs: NDArray[np.float64], limits: ModelLimits
) -> TopK | None:
    """Split rows of the tail's entry and K more; None where the first entry is not the tail's."""
    if (ids[:, 0] != limits.vocabulary_size).any():
        return None
    return TopK(
        ids[:, 1:].astype(np.int32),
        logprobs[:, 1:].astype(np.float32),
        logprobs[:, 0].astype(np.float32),
    )
