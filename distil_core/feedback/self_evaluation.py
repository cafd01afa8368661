"""The policy judges its own attempts, and the tools judge its judgement."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distil_core.config.models import SelfEvaluationParams
from distil_core.engines.base import Engine, SampleRequest, SamplingSettings
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import decode
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.verifiers.base import FeedbackItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class OwnVerdict:
    """What the policy said of one of its attempts, and whether it holds it correct."""

    rollout_id: str
    text: str
    holds_correct: bool


def evaluate_own(
    attempts: Sequence[tuple[str, str, str]],
    params: SelfEvaluationParams,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    renderer: ContextRenderer,
    seed: int,
    progress: ProgressCallback,
) -> list[OwnVerdict]:
    """One verdict for each (rollout id, prompt, attempt), in order. `DataError` where the question
    is too long for a context."""
    requests = [
        SampleRequest(
            renderer.question(
                params.template, {"prompt": prompt, "attempt": attempt}, rollout_id
            ).token_ids,
            derive_seed(seed, "self_evaluation", rollout_id),
        )
        for rollout_id, prompt, attempt in attempts
    ]
    settings = SamplingSettings(params.max_new_tokens, params.temperature, params.top_p)
    responses = engine.sample(requests, settings, progress)
    texts = [decode(tokenizer, response.token_ids) for response in responses]
    return [
        OwnVerdict(rollout_id, text, re.search(params.correct_pattern, text) is not None)
        for (rollout_id, _, _), text in zip(attempts, texts, strict=True)
    ]


def as_feedback(
    verdict: OwnVerdict, tools_verdict: str, params: SelfEvaluationParams
) -> FeedbackItem | None:
    """What the expert gets to read of it, given what the tools found; None where it is dropped."""
    agrees = verdict.holds_correct == (tools_verdict == "correct")
    if agrees or params.on_disagreement == "keep":
        return FeedbackItem("self_evaluation", verdict.text)
    if params.on_disagreement == "drop":
        return None
    note = f"{verdict.text}\n(A tool finds the attempt {tools_verdict}.)"
    return FeedbackItem("self_evaluation", note)


def agreement(verdicts: Sequence[OwnVerdict], tools_verdicts: Sequence[str]) -> dict[str, Any]:
    """Both verdicts on record: counts of the four cases, and the rollouts held correct. The tools'
    own verdict is in each rollout's row."""
    cases = {"both_correct": 0, "only_own_correct": 0, "only_tools_correct": 0, "both_wrong": 0}
    for own, tools in zip(verdicts, tools_verdicts, strict=True):
        if own.holds_correct:
            cases["both_correct" if tools == "correct" else "only_own_correct"] += 1
        else:
            cases["only_tools_correct" if tools == "correct" else "both_wrong"] += 1
    held = [verdict.rollout_id for verdict in verdicts if verdict.holds_correct]
    return {**cases, "held_correct": held}
