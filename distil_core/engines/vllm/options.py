"""The settings of engine `vllm`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from distil_core.credentials import plain_address
from distil_core.engines.base import EngineOptions


class Options(EngineOptions):
    """vLLM, in this process or in servers."""

    mode: Literal["in_process", "managed_server", "external_servers"]
    """In this process, in a server started and ended here, or in servers run by others."""
    base_urls: tuple[Annotated[str, Field(pattern=r"^https?://[^/]+(/.*[^/])?$")], ...] = ()
    """Addresses of external servers, without /v1. Whoever can reach them can load weights into
    them: keep them to machines that are yours alone."""
    max_logprobs: PositiveInt = 64
    """The largest top K that may be asked for."""
    max_model_len: PositiveInt | None = None
    """Longest context and response together, in tokens; null is the policy's own."""
    max_num_sequences: PositiveInt = 64
    """Sequences sampled or scored at once."""
    max_batched_tokens: PositiveInt = 4096
    """Tokens of one forward pass, which bounds the logits held while scoring; on a CPU
    max_model_len or more."""
    kv_cache_gb: PositiveInt = 1
    """Of a CPU's memory for keys and values."""
    gpu_memory_fraction: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the card's memory, all in all."""
    enforce_eager: bool = True
    """No compilation or CUDA graphs: starts fast, samples slower."""
    canary_limit: PositiveFloat = 1e-4
    """Largest difference of a log-probability (natural) from transformers after the weights
    changed."""
    drift_rows: PositiveInt = 16
    """Responses of each `sample` that transformers scores again."""
    drift_limit: PositiveFloat = 1e-3
    """Largest mean difference of their tokens' log-probabilities (natural)."""
    start_timeout_s: PositiveFloat = 600.0
    """Of a server's start."""
    request_timeout_s: PositiveFloat = 600.0
    """Of one request to a server."""
    connections: PositiveInt = 16
    """Requests under way, per server."""

    @property
    def largest_top_k(self) -> int:
        """vLLM refuses to give more."""
        return self.max_logprobs

    @model_validator(mode="after")
    def _servers_match_the_mode(self) -> "Options":
        if (self.mode == "external_servers") != bool(self.base_urls):
            raise ValueError(
                f"base_urls are the servers of mode external_servers; found mode {self.mode} with "
                f"{len(self.base_urls)} base_urls: name at least one, or leave them out"
            )
        for url in self.base_urls:
            plain_address(url)
        if len(set(self.base_urls)) != len(self.base_urls):
            raise ValueError("base_urls name a server twice: each takes its share of the requests")
        if self.max_batched_tokens < self.max_num_sequences:
            raise ValueError(
                f"max_batched_tokens {self.max_batched_tokens} is less than max_num_sequences "
                f"{self.max_num_sequences}: each sequence needs one token of a pass"
            )
        return self
