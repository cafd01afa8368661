"""The policy judges its own attempts, and the tools check its judgement."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distil_core.config.models import SelfEvaluationParams
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.feedback.sources.base import (
    AskablePolicy,
    Attempt,
    FeedbackSourceOptions,
    SourceFeedback,
    SourceSetting,
)
from distil_core.seeds import derive_seed
from distil_core.verifiers.base import FeedbackItem


class Options(SelfEvaluationParams, FeedbackSourceOptions):
    """As `consult.self_evaluation` has them."""

    kinds = ("self_evaluation",)
    asks_policy = True


@dataclass(frozen=True)
class OwnVerdict:
    """What the policy said about one of its attempts, and whether it considers the attempt
    correct."""

    attempt: Attempt
    text: str
    holds_correct: bool


class SelfEvaluation:
    """Asks one question for each attempt, which the policy answers without knowing the tools'
    verdict."""

    def __init__(self, params: SelfEvaluationParams):
        self._params = params

    def gather(
        self, attempts: Sequence[Attempt], asked: Sequence[Attempt], setting: SourceSetting
    ) -> SourceFeedback:
        """See the contract. Reports how far the verdicts of policy and tools agree. Raises
        `DataError` where a question is too long for a context."""
        verdicts = self._verdicts(asked, setting.policy(), setting)
        items = {
            verdict.attempt.name: (item,)
            for verdict in verdicts
            if (item := self._as_feedback(verdict)) is not None
        }
        return SourceFeedback(items, {"self_evaluation": agreement(verdicts)})

    def _verdicts(
        self, asked: Sequence[Attempt], policy: AskablePolicy, setting: SourceSetting
    ) -> list[OwnVerdict]:
        """The verdicts on the attempts that the policy could judge, in order."""
        # Imported here, as it loads the tokenizers' library: only where there is a model.
        from distil_core.policy.tokenizer import decode

        requests = [
            SampleRequest(
                policy.renderer.question(
                    self._params.template,
                    {"prompt": attempt.problem.prompt, "attempt": attempt.response},
                    attempt.name,
                ).token_ids,
                derive_seed(setting.seed, "self_evaluation", attempt.name),
            )
            for attempt in asked
        ]
        params = self._params
        settings = SamplingSettings(params.max_new_tokens, params.temperature, params.top_p)
        responses = policy.engine.sample(requests, settings, setting.progress)
        texts = [decode(policy.tokenizer, response.token_ids) for response in responses]
        return [
            OwnVerdict(attempt, text, re.search(params.correct_pattern, text) is not None)
            for attempt, text, response in zip(asked, texts, responses, strict=True)
            if response.error is None
        ]

    def _as_feedback(self, verdict: OwnVerdict) -> FeedbackItem | None:
        """What the expert gets to read of the verdict, given the tools' one; None where it is
        dropped."""
        agrees = verdict.holds_correct == verdict.attempt.is_correct
        if agrees or self._params.on_disagreement == "keep":
            return FeedbackItem("self_evaluation", verdict.text)
        if self._params.on_disagreement == "drop":
            return None
        note = f"{verdict.text}\n(A tool finds the attempt {verdict.attempt.verdict}.)"
        return FeedbackItem("self_evaluation", note)


def agreement(verdicts: Sequence[OwnVerdict]) -> dict[str, Any]:
    """Counts of the four combinations of both verdicts, and the attempts that the policy considers
    correct. The tools' verdict is in each rollout's row."""
    cases = {"both_correct": 0, "only_own_correct": 0, "only_tools_correct": 0, "both_wrong": 0}
    for own in verdicts:
        if own.holds_correct:
            cases["both_correct" if own.attempt.is_correct else "only_own_correct"] += 1
        else:
            cases["only_tools_correct" if own.attempt.is_correct else "both_wrong"] += 1
    held = [verdict.attempt.name for verdict in verdicts if verdict.holds_correct]
    return {**cases, "held_correct": held}


def build(options: Options) -> SelfEvaluation:
    """The source."""
    return SelfEvaluation(options)
