"""An expert with weights at hand: it reads the feedback and scores the student's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import PositiveInt, model_validator

from distil_core.config.models import Component, OnePassLayout, Positive
from distil_core.engines import ENGINES, build_engine
from distil_core.engines.base import Engine, ScoreRequest
from distil_core.errors import ExpertError
from distil_core.experts._temperature import can_divide, engine_at_temperature
from distil_core.experts.base import ExpertAnswer, ExpertOptions, ExpertQuery, ExpertSetting
from distil_core.progress import ProgressCallback


class ScoringOptions(ExpertOptions):
    """What experts with weights at hand share: either an engine, or a batch size."""

    batch_size: PositiveInt | None = None
    """Short for the transformers engine with this batch_size."""
    layout: OnePassLayout = "padded"
    """Of that engine, as in `train.layout`."""
    engine: Component | None = None
    """What scores, as in sample.engine."""
    temperature: Positive = 1.0
    """Logits are divided by it before the distribution is stored, over the whole vocabulary: below
    1 the expert is sharper, and what of its doubts it keeps is not copied. Its own responses, whose
    accuracy `evaluate` measures, are sampled at this times evaluate.temperature. Other than 1 it
    needs the transformers engine."""

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if (self.batch_size is None) == (self.engine is None):
            raise ValueError(
                f"found batch_size {self.batch_size} and engine {self.engine}: give batch_size, "
                "for the transformers engine, or an engine with options of its own"
            )
        if self.engine is not None and self.layout != "padded":
            raise ValueError(
                f"found layout {self.layout} beside an engine: give it among the engine's options"
            )
        if self.engine is not None:
            ENGINES.options(self.engine.name, self.engine.options)
        if self.temperature != 1.0 and not can_divide(self.scoring_engine):
            raise ValueError(
                f"found temperature {self.temperature:g} beside engine "
                f"{self.scoring_engine.name!r}, which gives the most likely ids of the model's own "
                "distribution only: use the engine transformers (batch_size), or temperature 1"
            )
        return self

    @property
    def writes_responses(self) -> bool:
        """True: the model that scores the student's tokens can also write responses."""
        return True

    @property
    def follows_turns(self) -> bool:
        """True: the rollout's tokens so far are part of the context that it scores in."""
        return True

    @property
    def distribution_temperature(self) -> float:
        """As set."""
        return self.temperature

    @property
    def scoring_engine(self) -> Component:
        """The engine that scores."""
        return self.engine or Component(
            name="transformers", options={"batch_size": self.batch_size, "layout": self.layout}
        )


class ScoringExpert:
    """Scores with an engine that has the expert's weights, in evaluation mode."""

    def __init__(
        self,
        engine: Engine,
        max_context_tokens: int,
        top_k: int,
        top_p: float,
        needs_feedback: bool = True,
    ):
        self.needs_feedback = needs_feedback
        self._engine = engine
        self._max_context_tokens = max_context_tokens
        self._top_k = top_k
        self._top_p = top_p

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """The engine's distribution at each state. `ExpertError` for a context that is too long."""
        for query in queries:
            if len(query.context_ids) > self._max_context_tokens:
                raise ExpertError(
                    f"an expert context has {len(query.context_ids)} tokens, "
                    f"context.max_context_tokens allows {self._max_context_tokens}: raise it, or "
                    "shorten context.expert_template; contexts are never cut silently"
                )
        requests = [ScoreRequest(query.context_ids, query.response_ids) for query in queries]
        scored = self._engine.score(requests, self._top_k, self._top_p, progress)
        return [
            ExpertAnswer(list(query.context_ids), distribution)
            for query, distribution in zip(queries, scored, strict=True)
        ]


def scoring_expert(
    weights_dir: Path,
    setting: ExpertSetting,
    options: ScoringOptions,
    needs_feedback: bool = True,
) -> ScoringExpert:
    """The expert whose weights and tokenizer are in `weights_dir`; dropout is never active."""
    engine, temperature = options.scoring_engine, options.temperature
    return ScoringExpert(
        build_engine(engine, weights_dir, setting.compute)
        if temperature == 1.0
        else engine_at_temperature(engine, weights_dir, setting.compute, temperature),
        setting.max_context_tokens,
        setting.top_k,
        setting.top_p,
        needs_feedback,
    )
