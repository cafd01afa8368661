"""Engine `vllm`: the contract of engines/base.py, in every mode of vLLM."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch

from distil_core.config.models import ComputeParams
from distil_core.engines._known_ids import require_known_ids
from distil_core.engines._sampling import mass_before
from distil_core.engines.base import (
    SampledResponse,
    SampleRequest,
    SamplingSettings,
    ScoredResponse,
    ScoreRequest,
    require_responses,
)
from distil_core.engines.vllm.backend import (
    LOWEST_TEMPERATURE,
    Backend,
    Policy,
    Sampled,
    TopK,
    Unanswered,
)
from distil_core.engines.vllm.options import Options
from distil_core.engines.vllm.reference import Drift, Reference
from distil_core.errors import EngineRefusedError
from distil_core.progress import ProgressCallback

_ENTRIES_AT_ONCE = 2**22


class VllmEngine:
    """One policy in a backend that other engines may use in between with theirs. The policy is then
    loaded and checked again. `lock` keeps the engines from using the backend at once."""

    def __init__(
        self,
        backend: Backend,
        lock: threading.RLock,
        policy: Policy,
        end_token_ids: tuple[int, ...],
        options: Options,
        compute: ComputeParams,
    ):
        self._backend = backend
        self._lock = lock
        self._policy = policy
        self._end_token_ids = end_token_ids
        self._options = options
        self._compute = compute
        self._drift: Drift | None = None
        self._turns: _Turns | None = None
        with lock:
            self._ensure_policy_loaded()

    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        progress: ProgressCallback,
    ) -> list[SampledResponse]:
        """See the contract. Raises `EngineError` where the drift exceeds its limit."""
        if not requests:
            return []
        if settings.temperature < LOWEST_TEMPERATURE:
            raise EngineRefusedError(
                f"vLLM samples at temperatures from {LOWEST_TEMPERATURE} on, found "
                f"{settings.temperature}: raise it, or use engine 'transformers'"
            )
        require_known_ids(
            (one.context_ids for one in requests), self._backend.limits.vocabulary_size
        )
        longest = max(len(request.context_ids) for request in requests)
        self._require_fits(longest + settings.max_new_tokens)
        with self._lock:
            self._ensure_policy_loaded()
            sampled = self._backend.sample(
                requests, settings, self._end_token_ids, _counted(progress, len(requests))
            )
        responses = [self._response(row) for row in sampled]
        if self._turns is None:
            require_responses(responses)
        self._check_drift(requests, responses, settings)
        return responses

    @contextmanager
    def continuing(self) -> Iterator[VllmEngine]:
        """See the contract; it is vLLM itself that keeps the past, in its prefix cache. The drift
        is that of all calls within. Every further call has half as many responses scored again, one
        at least: transformers has to read all that comes before them."""
        sampler = copy(self)
        sampler._turns = _Turns(Reference(self._policy, self._compute))
        try:
            with self._backend.continuing():
                yield sampler
        finally:
            self._drift, sampler._turns = sampler._drift, None

    def score(
        self,
        requests: Sequence[ScoreRequest],
        top_k: int,
        top_p: float,
        progress: ProgressCallback,
    ) -> list[ScoredResponse]:
        """See the contract. It works in chunks, so that the entries of all contexts never exist at
        once."""
        limits = self._backend.limits
        top_k = min(top_k, limits.vocabulary_size)
        if top_k > limits.max_logprobs:
            raise EngineRefusedError(
                f"top_k {top_k} exceeds max_logprobs {limits.max_logprobs} of engine 'vllm': raise "
                "that option (a server: --max-logprobs), or lower tabulate.top_k"
            )
        require_known_ids(
            ((*r.context_ids, *r.response_ids) for r in requests), limits.vocabulary_size
        )
        if requests:
            # One more token, as vLLM samples one after each sequence that it scores.
            self._require_fits(max(len(r.context_ids) + len(r.response_ids) for r in requests) + 1)
        results: list[ScoredResponse] = []
        report = _counted(progress, len(requests))
        with self._lock:
            self._ensure_policy_loaded()
            for chunk in _chunks(requests, top_k):
                sequences = [
                    ([*request.context_ids, *request.response_ids], len(request.context_ids))
                    for request in chunk
                ]
                results += [
                    _scored(top, top_p) for top in self._backend.score(sequences, top_k, report)
                ]
        return results

    def drift(self) -> dict[str, float]:
        """The difference of the last responses' log-probabilities from transformers' (see
        `Drift`)."""
        return {} if self._drift is None else self._drift.figures()

    def _ensure_policy_loaded(self) -> None:
        def canary() -> None:
            reference = Reference(self._policy, self._compute)
            reference.check_canary(self._backend, self._options.canary_limit)

        self._backend.ensure_loaded(self._policy, canary)

    def _require_fits(self, num_tokens: int) -> None:
        if num_tokens > self._backend.limits.max_model_len:
            raise EngineRefusedError(
                f"{num_tokens} tokens of context and response exceed max_model_len "
                f"{self._backend.limits.max_model_len} of engine 'vllm': raise that option as far "
                "as the policy allows, or lower context.max_context_tokens or max_new_tokens"
            )

    def _check_drift(
        self,
        requests: Sequence[SampleRequest],
        responses: Sequence[SampledResponse],
        settings: SamplingSettings,
    ) -> None:
        answered = [index for index, one in enumerate(responses) if one.error is None]
        if not answered:
            return
        turns = self._turns
        reference = turns.reference if turns else Reference(self._policy, self._compute)
        rows = max(1, self._options.drift_rows >> (turns.num_calls if turns else 0))
        drift = reference.drift(
            [requests[index] for index in answered],
            [responses[index] for index in answered],
            settings,
            rows,
        )
        if turns and turns.num_calls and self._drift:
            self._drift = self._drift.and_of(drift)
        else:
            self._drift = drift
        if turns:
            turns.num_calls += 1
        if not drift.mean <= self._options.drift_limit:
            raise EngineRefusedError(
                f"vLLM's log-probabilities drifted from transformers' by {drift.mean:.3g} a token "
                f"on average, {drift.largest:.3g} at most, over {drift.num_tokens} tokens "
                f"(drift_limit {self._options.drift_limit:g}): importance weights would be wrong. "
                "Raise the limit only for a lower precision that you mean to use"
            )

    def _response(self, sampled: Sampled | Unanswered) -> SampledResponse:
        if isinstance(sampled, Unanswered):
            return SampledResponse.failed(f"vLLM did not answer: {sampled.error}")
        # Adding 0.0 turns the -0.0 of a certain token into transformers' 0.0.
        logprobs = [logprob + 0.0 for logprob in sampled.logprobs]
        if not np.isfinite(logprobs).all():
            raise EngineRefusedError(
                "the policy's logits hold NaN or infinity: its weights are damaged, or too large "
                "for compute.dtype; nothing was written"
            )
        ended = sampled.token_ids[-1] in self._end_token_ids
        return SampledResponse(sampled.token_ids, logprobs, "stop" if ended else "length")


@dataclass
class _Turns:
    """What is known of a loop whose calls continue each other."""

    reference: Reference
    num_calls: int = 0


def _counted(progress: ProgressCallback, total: int) -> Callable[[int], None]:
    finished = 0

    def done(count: int) -> None:
        nonlocal finished
        finished += count
        progress(finished, total)

    return done


def _chunks(requests: Sequence[ScoreRequest], top_k: int) -> Iterator[list[ScoreRequest]]:
    chunk: list[ScoreRequest] = []
    entries = 0
    for request in requests:
        own = (len(request.context_ids) + len(request.response_ids)) * (top_k + 1)
        if chunk and entries + own > _ENTRIES_AT_ONCE:
            yield chunk
            chunk, entries = [], 0
        chunk.append(request)
        entries += own
    if chunk:
        yield chunk


def _scored(top: TopK, top_p: float) -> ScoredResponse:
    """The fewest of the top K that hold `top_p`; the rest is added to the tail."""
    logprobs_tk = torch.from_numpy(top.logprobs_tk).double()
    if bool(torch.isnan(logprobs_tk).any()):
        raise EngineRefusedError(
            "the policy's logits hold NaN or infinity: its weights are damaged, or too large for "
            "compute.dtype; nothing was written"
        )
    # Minus infinity: what a head has beyond the tokenizer, of which a large K lists some.
    kept_tk = torch.isfinite(logprobs_tk)
    if top_p < 1.0:
        kept_tk &= mass_before(logprobs_tk) < top_p
    left_tk = logprobs_tk.masked_fill(kept_tk, -torch.inf)
    tail_t = torch.cat([left_tk, torch.from_numpy(top.tail_t).double()[:, None]], 1).logsumexp(1)
    kept = kept_tk.numpy()
    return ScoredResponse(
        kept.sum(1).astype(np.int32),
        top.ids_tk[kept],
        top.logprobs_tk[kept],
        tail_t.float().numpy(),
    )
