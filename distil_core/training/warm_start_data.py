"""The supervised texts of a warm start, made from problems by the source and the verifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distil_core.config.models import ContextParams
from distil_core.feedback.compose import render_expert, render_student
from distil_core.feedback.wording import worded, worded_verdict
from distil_core.policy.tokenizer import encode_context, encode_text
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.seeds import generator
from distil_core.training.warm_start import WarmStartExample
from distil_core.verifiers.base import Verifier

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def demonstration_examples(
    problems: Sequence[Problem],
    source: SupervisedSource,
    tokenizer: PreTrainedTokenizerBase,
    context: ContextParams,
    seed: int,
) -> list[WarmStartExample]:
    """Each problem in the student's context, followed by a demonstration."""
    examples = []
    for problem in problems:
        random = generator(seed, "base", "demonstration", problem.problem_id)
        demonstration = source.demonstration(problem, random)
        response = [*encode_text(tokenizer, demonstration), int(tokenizer.eos_token_id)]
        segments = render_student(context.student_template, problem.prompt)
        examples.append(
            WarmStartExample(encode_context(tokenizer, segments), response, list(response))
        )
    return examples


def correction_examples(
    problems: Sequence[Problem],
    source: SupervisedSource,
    verifier: Verifier,
    tokenizer: PreTrainedTokenizerBase,
    context: ContextParams,
    seed: int,
) -> list[WarmStartExample]:
    """Each problem in the expert's context, with a corrupted attempt and its feedback. The input
    follows the attempt; the labels are the oracle's at each state along it."""
    end = int(tokenizer.eos_token_id)
    examples = []
    for problem in problems:
        random = generator(seed, "base", "corruption", problem.problem_id)
        attempt = source.corrupted_attempt(problem, random)
        verification = verifier.verify(problem, attempt)
        segments = render_expert(
            context.expert_template,
            problem.prompt,
            attempt,
            worded_verdict(verification.verdict, context.wording),
            worded(verification.feedback, context.wording),
        )
        inputs = [*encode_text(tokenizer, attempt), end]
        labels = encode_text(tokenizer, source.oracle_characters(problem, attempt))
        labels += [end] * (len(inputs) - len(labels))
        examples.append(WarmStartExample(encode_context(tokenizer, segments), inputs, labels))
    return examples
