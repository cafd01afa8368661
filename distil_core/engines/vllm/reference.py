"""transformers as the reference for vLLM: a canary after each change of weights, and the drift of
the sampler's log-probabilities from the trainer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from distil_core.config.models import ComputeParams
from distil_core.engines._sampling import normalised_logprobs, sampling_logprobs
from distil_core.engines.base import SampledResponse, SampleRequest, SamplingSettings
from distil_core.engines.vllm.backend import Backend, Policy
from distil_core.errors import EngineRefusedError
from distil_core.policy.batching import collate, response_logits
from distil_core.policy.model import load_model
from distil_core.seeds import generator

_CANARY_TOKENS = 24
_CANARY_TOP_K = 8


@dataclass(frozen=True)
class Drift:
    """Absolute differences of re-scored tokens' log-probabilities, mean and largest; the number of
    tokens; and how many of them are outside transformers' nucleus, which the two differences do not
    cover."""

    mean: float
    largest: float
    num_tokens: int
    num_outside: int

    def and_of(self, later: Drift) -> Drift:
        """The drift of both calls' tokens."""
        own, more = (one.num_tokens - one.num_outside for one in (self, later))
        return Drift(
            (own * self.mean + more * later.mean) / max(own + more, 1),
            max(self.largest, later.largest),
            self.num_tokens + later.num_tokens,
            self.num_outside + later.num_outside,
        )

    def figures(self) -> dict[str, float]:
        """The figures by their names in the rollouts' metadata and in metrics."""
        return {
            "engine_logprob_error_mean": self.mean,
            "engine_logprob_error_max": self.largest,
            "engine_tokens_checked": self.num_tokens,
            "engine_tokens_outside_nucleus": self.num_outside,
        }


class Reference:
    """The policy computed by transformers, on the CPU where the engine fills the GPU."""

    def __init__(self, policy: Policy, compute: ComputeParams):
        self._policy = policy
        self._model = load_model(policy.folder, compute.model_copy(update={"device": "cpu"}))

    @torch.inference_mode()
    def check_canary(self, backend: Backend, limit: float) -> float:
        """The largest difference on two fixed sequences. Raises `EngineError` where it exceeds
        `limit`."""
        limits = backend.limits
        if self._model.config.vocab_size != limits.vocabulary_size:
            raise EngineRefusedError(
                f"vLLM holds a model of {limits.vocabulary_size} tokens, the policy in "
                f"{self._policy.folder} has {self._model.config.vocab_size}: start the server with "
                "a policy of this campaign"
            )
        length = min(_CANARY_TOKENS, limits.max_model_len - 1)
        ids_bs = generator(0, "vllm", "canary").integers(0, limits.vocabulary_size, (2, length))
        top_k = min(_CANARY_TOP_K, limits.max_logprobs, limits.vocabulary_size)
        largest = 0.0
        scored = backend.score([(ids, 1) for ids in ids_bs.tolist()], top_k, lambda _: None)
        logits_bsv = self._model(torch.from_numpy(ids_bs)).logits[:, :-1]
        for found, logprobs_tv in zip(scored, normalised_logprobs(logits_bsv), strict=True):
            ids_tk = torch.from_numpy(found.ids_tk.astype(np.int64))
            expected_tk = logprobs_tv.gather(1, ids_tk).numpy()
            largest = max(largest, float(np.abs(found.logprobs_tk - expected_tk).max()))
        if not largest <= limit:
            raise EngineRefusedError(
                f"after loading {self._policy.folder}, vLLM's log-probabilities differ from "
                f"transformers' by up to {largest:.3g} (canary_limit {limit:g}): it does not hold "
                "this policy, or computes it otherwise. Nothing was sampled or scored"
            )
        return largest

    @torch.inference_mode()
    def drift(
        self,
        requests: Sequence[SampleRequest],
        responses: Sequence[SampledResponse],
        settings: SamplingSettings,
        num_rows: int,
    ) -> Drift:
        """Re-score `num_rows` of the responses, spread evenly over them."""
        chosen = np.unique(np.linspace(0, len(requests) - 1, num_rows).astype(int)).tolist()
        errors, num_outside = [], 0
        for index in chosen:
            response = responses[index]
            batch = collate([requests[index].context_ids], [response.token_ids], "cpu")
            logprobs_tv = sampling_logprobs(
                response_logits(self._model, batch)[0], settings.temperature, settings.top_p
            )
            own_t = logprobs_tv.gather(1, batch.response_ids_bt[0][:, None])[:, 0].numpy()
            inside = np.isfinite(own_t)
            num_outside += int((~inside).sum())
            errors.append(np.abs(own_t - response.behaviour_logprobs)[inside])
        error_n = np.concatenate([*errors, np.zeros(0)])
        mean, largest = (
            (float(error_n.mean()), float(error_n.max())) if len(error_n) else (0.0, 0.0)
        )
        return Drift(mean, largest, len(error_n) + num_outside, num_outside)
