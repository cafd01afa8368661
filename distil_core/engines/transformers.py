"""Sampling and scoring with the model in this process, through Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from distil_core.config.models import ComputeParams, OnePassLayout
from distil_core.engines._kept_past import KeptPast
from distil_core.engines._known_ids import require_known_ids
from distil_core.engines._rows import next_rows
from distil_core.engines._sampling import draw, sampling_logprobs
from distil_core.engines._scoring import (
    requested_logits,
    require_trees,
    scoring_order,
    top_distributions,
)
from distil_core.engines.base import (
    EngineOptions,
    SampledResponse,
    SampleRequest,
    SamplingSettings,
    ScoredResponse,
    ScoreRequest,
)
from distil_core.policy.batching import vocabulary_size
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.progress import ProgressCallback
from distil_core.seeds import seeded_generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distil_core.engines._decoding import Decoder

_MIB = 2**20
_KEPT_PAST_MIB = 512


class Options(EngineOptions):
    """Samples and scores in this process."""

    batch_size: PositiveInt
    """Rows in one forward pass."""
    layout: OnePassLayout = "padded"
    """Of rows that are scored, as in `train.layout`; sampling reads equal contexts once in any
    case."""
    kept_past_mib: NonNegativeInt = _KEPT_PAST_MIB
    """Of rollouts in turns: memory for keys and values between turns, besides those of a batch.
    What does not fit is computed again; 0 keeps nothing."""


class TransformersEngine:
    """Makes batches of requests sorted by length, so that there is little padding.

    During sampling, requests whose context and tokens so far are equal share one row: the rollouts
    of a problem are separate rows only from where they differ. Within `continuing`, rows that ended
    are kept, and requests that begin with their tokens are computed from there on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        end_token_ids: Collection[int],
        batch_size: int,
        layout: OnePassLayout = "padded",
        kept_past_mib: int = _KEPT_PAST_MIB,
    ):
        self._model = model
        self._end_token_ids = np.array(sorted(end_token_ids))
        self._batch_size = batch_size
        self._layout = layout
        self._kept_past_mib = kept_past_mib
        self._kept: KeptPast | None = None
        self._longest_in_trees = 0

    @contextmanager
    def continuing(self) -> Iterator[TransformersEngine]:
        """An engine with the same model that keeps what it has computed, see the contract. It keeps
        nothing where the model's past cannot be taken apart, as with sliding windows."""
        # Imported here, as transformers takes seconds: only a process with a model comes here.
        from distil_core.policy._internals import can_begin_after_past

        sampler = copy(self)
        kept = KeptPast(self._kept_past_mib * _MIB)
        keeps = self._kept_past_mib > 0 and can_begin_after_past(self._model)
        sampler._kept = kept if keeps else None
        try:
            yield sampler
        finally:
            kept.close()

    @torch.inference_mode()
    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        progress: ProgressCallback,
    ) -> list[SampledResponse]:
        """Draw one response for each request; see the contract in engines/base.py."""
        require_known_ids((one.context_ids for one in requests), vocabulary_size(self._model))
        results: list[SampledResponse | None] = [None] * len(requests)
        done = 0
        contexts = [tuple(request.context_ids) for request in requests]
        # As the call finds it: what its own batches add is for later calls.
        known = [0 if self._kept is None else self._kept.length(context) for context in contexts]
        for indices in self._prompt_batches(contexts, known):
            rows = self._sample_batch(
                [requests[i] for i in indices], [known[i] for i in indices], settings
            )
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
        require_known_ids(
            (ids for one in requests for ids in (one.context_ids, one.response_ids)),
            vocabulary_size(self._model),
        )
        results: list[ScoredResponse | None] = [None] * len(requests)
        done = 0
        order = scoring_order(requests, self._layout)
        if self._layout == "prefix_tree":
            self._require_trees([requests[i] for i in order])
        for indices in self._cut(order):
            scored = [requests[i] for i in indices]
            logits_nv = requested_logits(self._model, scored, self._layout)
            lengths = [len(request.response_ids) for request in scored]
            rows = top_distributions(logits_nv, lengths, top_k, top_p)
            for index, row in zip(indices, rows, strict=True):
                results[index] = row
            done += len(indices)
            progress(done, len(requests))
        return [result for result in results if result is not None]

    def _require_trees(self, requests: Sequence[ScoreRequest]) -> None:
        """Check prefix trees once, and again when longer rows come."""
        longest = max((len(one.context_ids) + len(one.response_ids) for one in requests), default=0)
        if longest > self._longest_in_trees:
            require_trees(self._model, requests, longest)
            self._longest_in_trees = longest

    def _prompt_batches(
        self, contexts: Sequence[tuple[int, ...]], known: Sequence[int]
    ) -> Iterator[list[int]]:
        """Indices of at most batch_size contexts of which the tokens to compute, and those already
        known, differ in number by less than a factor of two. Equal contexts are adjacent, whatever
        the order of the requests."""

        def bucket(index: int) -> tuple[int, int]:
            return _bucket(len(contexts[index]) - known[index]), _bucket(known[index])

        order = sorted(
            range(len(contexts)),
            key=lambda index: (bucket(index), len(contexts[index]), contexts[index]),
        )
        for _, indices in groupby(order, key=bucket):
            yield from self._cut(list(indices))

    def _cut(self, indices: list[int]) -> Iterator[list[int]]:
        for start in range(0, len(indices), self._batch_size):
            yield indices[start : start + self._batch_size]

    def _sample_batch(
        self,
        requests: Sequence[SampleRequest],
        known: Sequence[int],
        settings: SamplingSettings,
    ) -> list[SampledResponse]:
        device = self._model.device
        uniforms_bt = torch.from_numpy(
            np.stack([_uniforms(request.seed, settings.max_new_tokens) for request in requests])
        ).to(device)
        contexts, row_a = _shared([tuple(request.context_ids) for request in requests])
        tokens_bt = torch.zeros(uniforms_bt.shape, dtype=torch.int64, device=device)
        logprobs_bt = torch.zeros_like(uniforms_bt)
        known_of = dict(zip(row_a.tolist(), known, strict=True))
        decoder = self._decoder(contexts, known_of, len(requests), settings.max_new_tokens)
        # The requests that continue, and the decoder's row of each.
        request_a = np.arange(len(requests))
        length_b = np.full(len(requests), settings.max_new_tokens)
        ended_b = np.zeros(len(requests), bool)
        for step in range(settings.max_new_tokens):
            logprobs_rv = sampling_logprobs(decoder.logits_rv, settings.temperature, settings.top_p)
            here_a, at_a = (
                torch.from_numpy(request_a).to(device),
                torch.from_numpy(row_a).to(device),
            )
            drawn_a = draw(logprobs_rv, uniforms_bt[here_a, step], at_a)
            tokens_bt[here_a, step] = drawn_a
            logprobs_bt[here_a, step] = logprobs_rv[at_a, drawn_a]
            token_a = drawn_a.cpu().numpy()
            going_a = ~np.isin(token_a, self._end_token_ids)
            ended_b[request_a[~going_a]], length_b[request_a[~going_a]] = True, step + 1
            if step + 1 == settings.max_new_tokens:
                going_a[:] = False
            if self._kept is not None:
                self._keep(decoder, requests, request_a, row_a, going_a, tokens_bt[:, :step])
            request_a = request_a[going_a]
            if not len(request_a):
                break
            rows = next_rows(row_a[going_a], token_a[going_a], len(logprobs_rv))
            row_a = rows.row_a
            decoder.step(rows.source_r, rows.token_r)
        return [
            SampledResponse(tokens[:length], logprobs[:length], "stop" if ended else "length")
            for tokens, logprobs, length, ended in zip(
                tokens_bt.tolist(), logprobs_bt.tolist(), length_b, ended_b, strict=True
            )
        ]

    def _decoder(
        self,
        contexts: Sequence[tuple[int, ...]],
        known: Mapping[int, int],
        max_rows: int,
        max_new_tokens: int,
    ) -> Decoder:
        # Imported here, as transformers takes seconds: only a process with a model comes here.
        from distil_core.engines._decoding import Decoder

        pasts = [
            None if self._kept is None else self._kept.find(context, known[number])
            for number, context in enumerate(contexts)
        ]
        return Decoder(self._model, contexts, max_rows, max_new_tokens, pasts)

    def _keep(
        self,
        decoder: Decoder,
        requests: Sequence[SampleRequest],
        request_a: NDArray[np.int64],
        row_a: NDArray[np.int64],
        going_a: NDArray[np.bool_],
        before_bt: Tensor,
    ) -> None:
        """Keep the rows that no request goes on with. before_bt: what was drawn before the present
        token, whose own keys and values nothing has computed."""
        assert self._kept is not None
        goes_on = set(row_a[going_a].tolist())
        ended = dict(zip(row_a.tolist(), request_a.tolist(), strict=True))
        for row, request in ended.items():
            if row not in goes_on:
                token_ids = [*requests[request].context_ids, *before_bt[request].tolist()]
                self._kept.add(token_ids, decoder.past(row, len(token_ids)))


def _bucket(length: int) -> int:
    """The index of the length bucket: up to 32, 64, 128 .. tokens."""
    return max(length - 1, 31).bit_length()


def _shared(
    contexts: Sequence[tuple[int, ...]],
) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
    """The distinct contexts in order of appearance, and for each context its index among them."""
    numbers: dict[tuple[int, ...], int] = {}
    owners = [numbers.setdefault(context, len(numbers)) for context in contexts]
    return list(numbers), np.array(owners)


def _uniforms(seed: int, count: int) -> NDArray[np.float64]:
    return seeded_generator(seed).random(count)


def build(options: Options, policy_dir: Path, compute: ComputeParams) -> TransformersEngine:
    """Load the policy in `policy_dir`, to sample and score with."""
    tokenizer = load_tokenizer(policy_dir)
    return TransformersEngine(
        load_model(policy_dir, compute),
        end_token_ids(tokenizer),
        options.batch_size,
        options.layout,
        options.kept_past_mib,
    )
