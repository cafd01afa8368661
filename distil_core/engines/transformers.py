"""Sampling and scoring with the model in this process, through Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
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


_LOGITS_AT_ONCE = 2**25


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
            rows = _top_distributions(
                logits_btv[batch.response_mask_bt],
                [len(requests[i].response_ids) for i in indices],
                top_k,
                top_p,
            )
            for index, row in zip(indices, rows, strict=True):
                results[index] = row
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


def _top_distributions(
    logits_nv: Tensor, lengths: Sequence[int], top_k: int, top_p: float
) -> Iterator[ScoredResponse]:
    """The distributions of responses whose positions lie one after another in `logits_nv`."""
    # In parts: in double precision the logits of a whole batch may not fit in memory.
    num_positions = max(1, _LOGITS_AT_ONCE // logits_nv.shape[-1])
    parts = [_top_positions(part, top_k, top_p) for part in logits_nv.split(num_positions)]
    counts_n, token_ids, logprobs, tail_logprobs_n = map(np.concatenate, zip(*parts, strict=True))
    position, stored = 0, 0
    for length in lengths:
        positions = slice(position, position + length)
        kept = slice(stored, stored + int(counts_n[positions].sum()))
        yield ScoredResponse(
            counts_n[positions], token_ids[kept], logprobs[kept], tail_logprobs_n[positions]
        )
        position, stored = positions.stop, kept.stop


def _top_positions(logits_nv: Tensor, top_k: int, top_p: float) -> tuple[NDArray[Any], ...]:
    """The fewest ids that hold `top_p`, at most `top_k`, and the log of the mass left over."""
    logprobs_nv = normalised_logprobs(logits_nv)
    top_nk, ids_nk = logprobs_nv.topk(min(top_k, logprobs_nv.shape[-1]), dim=-1)
    kept_nk = mass_before(top_nk) < top_p
    if top_p >= 1.0:
        kept_nk = torch.ones_like(kept_nk)
    # The tail from its own tokens, not as 1 - kept: a tail of 1e-9 would be lost to rounding.
    outside_nv = torch.ones_like(logprobs_nv, dtype=torch.bool).scatter(-1, ids_nk, ~kept_nk)
    tail_n = logprobs_nv.masked_fill(~outside_nv, -torch.inf).logsumexp(-1)
    tensors = (kept_nk.sum(-1).int(), ids_nk[kept_nk].int(), top_nk[kept_nk].float())
    return tuple(tensor.cpu().numpy() for tensor in (*tensors, tail_n.float()))


def build(options: Options, policy_dir: Path, compute: ComputeParams) -> TransformersEngine:
    """Load the policy in `policy_dir` and sample and score with it."""
    tokenizer = load_tokenizer(policy_dir)
    return TransformersEngine(
        load_model(policy_dir, compute), int(tokenizer.eos_token_id), options.batch_size
    )
