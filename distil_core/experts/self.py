"""The policy itself as expert: conditioned on the feedback, it scores the student's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from distil_core.config.models import ComputeParams
from distil_core.engines.base import Engine, ScoreRequest
from distil_core.engines.transformers import TransformersEngine
from distil_core.errors import ExpertError
from distil_core.experts.base import ExpertAnswer, ExpertQuery
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import encode_context, load_tokenizer
from distil_core.progress import ProgressCallback
from distil_core.registry import ComponentOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Options(ComponentOptions):
    """weights: 'frozen' is the base policy for the whole campaign; 'snapshot' the policy that
    sampled this iteration's rollouts. Frozen is the default: a snapshot is trained without
    feedback in its context, drifts away from reading it, and collapsed in measurements (DESIGN
    section 10). batch_size: rows in one forward pass."""

    weights: Literal["frozen", "snapshot"]
    batch_size: PositiveInt


class SelfExpert:
    """Scores with an engine that holds the expert's weights, in evaluation mode."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        max_context_tokens: int,
        top_k: int,
        top_p: float,
    ):
        self._engine = engine
        self._tokenizer = tokenizer
        self._max_context_tokens = max_context_tokens
        self._top_k = top_k
        self._top_p = top_p

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        contexts = [encode_context(self._tokenizer, query.context) for query in queries]
        for context_ids in contexts:
            if len(context_ids) > self._max_context_tokens:
                raise ExpertError(
                    f"an expert context has {len(context_ids)} tokens, "
                    f"context.max_context_tokens allows {self._max_context_tokens}: raise it, or "
                    "shorten context.expert_template; contexts are never cut silently"
                )
        requests = [
            ScoreRequest(context_ids, query.response_ids)
            for context_ids, query in zip(contexts, queries, strict=True)
        ]
        scored = self._engine.score(requests, self._top_k, self._top_p, progress)
        return [
            ExpertAnswer(context_ids, distribution)
            for context_ids, distribution in zip(contexts, scored, strict=True)
        ]


def build(
    options: Options,
    policy_dir: Path,
    compute: ComputeParams,
    max_context_tokens: int,
    top_k: int,
    top_p: float,
) -> SelfExpert:
    """policy_dir: the checkpoint that `weights` names for this iteration."""
    tokenizer = load_tokenizer(policy_dir)
    engine = TransformersEngine(
        load_model(policy_dir, compute), int(tokenizer.eos_token_id), options.batch_size
    )
    return SelfExpert(engine, tokenizer, max_context_tokens, top_k, top_p)
