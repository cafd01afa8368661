"""What the three modes have in common: a place where vLLM holds one policy at a time."""

import hashlib
from collections.abc import Callable, Sequence
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
    """A checkpoint folder as it was when looked at. identity: of its weights' files."""

    folder: Path
    identity: str

    @classmethod
    def of(cls, folder: Path) -> "Policy":
        """The folder's present state: written again, it is another policy."""
        digest = hashlib.blake2b(digest_size=8)
        for file in sorted(folder.glob("*.safetensors")):
            status = file.stat()
            digest.update(repr((file.name, status.st_mtime_ns, status.st_size)).encode())
        return cls(folder.resolve(), f"{folder.resolve()}@{digest.hexdigest()}")


@dataclass(frozen=True)
class ModelLimits:
    """max_logprobs: largest top K. max_model_len: tokens of context and response together."""

    vocabulary_size: int
    max_model_len: int
    max_logprobs: int

    @classmethod
    def parse(cls, description: str) -> "ModelLimits":
        """From a worker's `distil_describe`."""
        vocabulary_size, max_model_len, max_logprobs = map(int, description.split(",")[:3])
        return cls(vocabulary_size, max_model_len, max_logprobs)


@dataclass(frozen=True)
class Sampled:
    """Tokens with the end token, if it came, and their log-probabilities as vLLM reports them."""

    token_ids: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class TopK:
    """At each of T positions: ids_tk int32 and logprobs_tk float32 [T, K], most likely first, and
    tail_t float32 [T], log of the mass outside."""

    ids_tk: NDArray[np.int32]
    logprobs_tk: NDArray[np.float32]
    tail_t: NDArray[np.float32]


class Backend(Protocol):
    """Results are in the order of the requests; each one done is reported as it comes."""

    limits: ModelLimits

    def ensure_loaded(self, policy: Policy, check: Callable[[], object]) -> None:
        """Hold this policy from now on. Where weights change for it, `check` is called after, and
        raises where they are not to be trusted; they are loaded anew the next time then."""
        ...

    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        end_token_ids: Sequence[int],
        done: Callable[[int], None],
    ) -> list[Sampled]: ...

    def score(
        self, sequences: Sequence[tuple[list[int], int]], top_k: int, done: Callable[[int], None]
    ) -> list[TopK]:
        """Of each token sequence, the distributions from position `start` on."""
        ...

    def ended(self) -> bool:
        """Whether it can never answer again, so that a new one has to be started."""
        ...

    def close(self) -> None:
        """End it and everything it started. Safe to repeat."""
        ...


def sampling_arguments(
    request: SampleRequest, settings: SamplingSettings, end_token_ids: Sequence[int]
) -> dict[str, Any]:
    """Of vLLM's SamplingParams. Ends at our end tokens only, which are read from the checkpoint as
    for every engine."""
    return {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        # 64 bits go in. On a CPU, torch seeds its generator with the lower 32 of them.
        "seed": request.seed,
        "max_tokens": settings.max_new_tokens,
        "logprobs": 0,
        "detokenize": False,
        "ignore_eos": True,
        "stop_token_ids": list(end_token_ids),
    }


def scoring_arguments(top_k: int) -> dict[str, Any]:
    """Of vLLM's SamplingParams. It cannot sample nothing; the one token is thrown away."""
    return {"temperature": 1.0, "seed": 0, "max_tokens": 1, "prompt_logprobs": top_k} | {
        "detokenize": False
    }


def split_tails(
    ids: NDArray[np.int64], logprobs: NDArray[np.float64], limits: ModelLimits
) -> TopK | None:
    """Rows of the tail's entry and K more; None where the first entry is not the tail's."""
    if (ids[:, 0] != limits.vocabulary_size).any():
        return None
    return TopK(
        ids[:, 1:].astype(np.int32),
        logprobs[:, 1:].astype(np.float32),
        logprobs[:, 0].astype(np.float32),
    )
