"""Sampling and scoring with the model in this process, through Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from distil_core.config.models import ComputeParams
from distil_core.engines._sampling import (
    draw,
    mass_before,
    normalised_logprobs,
    sampling_logprobs,
)
from distil_core.engines.base import (
    SampledResponse,
    SampleRequest,
    SamplingSettings,
    ScoredResponse,
    ScoreRequest,
)
from distil_core.policy.batching import ResponseBatch, collate, response_logits
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.progress import ProgressCallback
from distil_core.registry import ComponentOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Options(ComponentOptions):
    """batch_size: rows in one forward pass."""

    batch_size: PositiveInt


class TransformersEngine:
    """Batches are cut from requests sorted by length, so that little is padding."""

    def __init__(self, model: PreTrainedModel, end_token_id: int, batch_size: int):
        self._model = model
        self._end_token_id = end_token_id
        self._batch_size = batch_size

    @torch.inference_mode()
    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        progress: ProgressCallback,
    ) -> list[SampledResponse]:
        """Draw one response for each request; see the contract in engines/base.py."""
        results: list[SampledResponse | None] = [None] * len(requests)
        done = 0
        for indices in self._batches([len(request.context_ids) for request in requests]):
            rows = self._sample_batch([requests[i] for i in indices], settings)
            for index, row in zip(indices, rows, strict=True):
                results[index] = row
            done += len(indices)
            progress(done, len(requests))
        return [result for result in results if result is not None]

    @torch.inference_mode()
    def score(
        self,
        requests: Sequence[ScoreRequest],
        top_k: int,
        top_p: float,
        progress: ProgressCallback,
    ) -> list[ScoredResponse]:
        """The model's distribution at every response position of each request."""
        results: list[ScoredResponse | None] = [None] * len(requests)
        done = 0
        lengths = [len(request.context_ids) + len(request.response_ids) for request in requests]
        for indices in self._batches(lengths):
            batch = collate(
                [requests[i].context_ids for i in indices],
                [requests[i].response_ids for i in indices],
                str(self._model.device),
            )
            logits_btv = response_logits(self._model, batch)
            for index, logits_tv in zip(indices, logits_btv, strict=True):
                # Row by row: in double precision a whole batch of them may not fit in memory.
                length = len(requests[index].response_ids)
                results[index] = _top_distribution(logits_tv[:length], top_k, top_p)
            done += len(indices)
            progress(done, len(requests))
        return [result for result in results if result is not None]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    def _sample_batch(
        self, requests: Sequence[SampleRequest], settings: SamplingSettings
    ) -> list[SampledResponse]:
        device = self._model.device
        uniforms_bt = torch.from_numpy(
            np.stack([_uniforms(request.seed, settings.max_new_tokens) for request in requests])
        ).to(device)
        context = collate(
            [request.context_ids for request in requests], [[]] * len(requests), str(device)
        )
        tokens_bt = torch.empty(
            (len(requests), settings.max_new_tokens), dtype=torch.int64, device=device
        )
        logprobs_bt = torch.empty_like(tokens_bt, dtype=torch.float64)
        finished_b = torch.zeros(len(requests), dtype=torch.bool, device=device)
        num_steps = settings.max_new_tokens
        for step, logits_bv in enumerate(self._next_logits(context, tokens_bt)):
            step_logprobs_bv = sampling_logprobs(logits_bv, settings.temperature, settings.top_p)
            token_b = draw(step_logprobs_bv, uniforms_bt[:, step])
            tokens_bt[:, step] = token_b
            logprobs_bt[:, step] = step_logprobs_bv.gather(1, token_b[:, None]).squeeze(1)
            finished_b |= token_b == self._end_token_id
            if finished_b.all():
                num_steps = step + 1
                break
        return [
            self._response(tokens, logprobs)
            for tokens, logprobs in zip(
                tokens_bt[:, :num_steps].tolist(), logprobs_bt[:, :num_steps].tolist(), strict=True
            )
        ]

    def _next_logits(self, context: ResponseBatch, tokens_bt: Tensor) -> Iterator[Tensor]:
        """Logits of the next token, [B, V], step by step; the caller fills in `tokens_bt`."""
        input_ids, mask = context.input_ids_bs, context.attention_mask_bs
        positions, cache = context.position_ids_bs, None
        for step in range(tokens_bt.shape[1]):
            output = self._model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            yield output.logits[:, -1]
            cache = output.past_key_values
            input_ids = tokens_bt[:, step : step + 1]
            positions = positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)

    def _response(self, tokens: list[int], logprobs: list[float]) -> SampledResponse:
        if self._end_token_id in tokens:
            end = tokens.index(self._end_token_id) + 1
            return SampledResponse(tokens[:end], logprobs[:end], "stop")
        return SampledResponse(tokens, logprobs, "length")


def _uniforms(seed: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def _top_distribution(logits_tv: Tensor, top_k: int, top_p: float) -> ScoredResponse:
    """The fewest ids that hold `top_p`, at most `top_k`, and the log of the mass left over."""
    logprobs_tv = normalised_logprobs(logits_tv)
    top_tk, ids_tk = logprobs_tv.topk(min(top_k, logprobs_tv.shape[-1]), dim=-1)
    kept_tk = mass_before(top_tk) < top_p
    if top_p >= 1.0:
        kept_tk = torch.ones_like(kept_tk)
    # The tail from its own tokens, not as 1 - kept: a tail of 1e-9 would be lost to rounding.
    outside_tv = torch.ones_like(logprobs_tv, dtype=torch.bool).scatter(-1, ids_tk, ~kept_tk)
    tail_t = logprobs_tv.masked_fill(~outside_tv, -torch.inf).logsumexp(-1)
    return ScoredResponse(
        counts_t=kept_tk.sum(-1).int().cpu().numpy(),
        token_ids=ids_tk[kept_tk].int().cpu().numpy(),
        logprobs=top_tk[kept_tk].float().cpu().numpy(),
        tail_logprobs_t=tail_t.float().cpu().numpy(),
    )


def build(options: Options, policy_dir: Path, compute: ComputeParams) -> TransformersEngine:
    """Load the policy in `policy_dir` and sample and score with it."""
    tokenizer = load_tokenizer(policy_dir)
    return TransformersEngine(
        load_model(policy_dir, compute), int(tokenizer.eos_token_id), options.batch_size
    )
