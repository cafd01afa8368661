"""Feedback tables made in memory: the rows that training reads, from rollouts or gold solutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from benchmarks.objectives.settings import COMPUTE, StudyTask
from distil_core.config.models import Component, TabulateParams
from distil_core.engines.base import ScoredResponse
from distil_core.errors import ConfigError
from distil_core.experts import build_expert
from distil_core.experts.base import ExpertQuery
from distil_core.feedback.compose import render_student
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import encode_context, encode_text, load_tokenizer
from distil_core.problems.base import Problem, ProblemSource
from distil_core.progress import no_progress
from distil_core.tables.schemas import FEEDBACK, ConsultationRow, FeedbackTableRow, RolloutRow
from distil_core.training.feedback_rows import FeedbackRows

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

# A program is never asked about most of the vocabulary. This much is left to it, as a top-K table's
# tail is, so that no objective meets an expert without any mass where the student has some.
_TAIL_MASS = 1e-3
_UNREADABLE = "\0"


@runtime_checkable
class DistributionOracle(Protocol):
    """A source that says what an informed expert would write at each state along an attempt and
    after it: characters and their masses, the empty string for ending the response."""

    def oracle_distributions(self, problem: Problem, attempt: str) -> list[dict[str, float]]: ...


@dataclass(frozen=True)
class Judged:
    """A rollout, as a row of the rollouts table, and its consultation."""

    problem: Problem
    rollout: RolloutRow
    consultation: ConsultationRow


class Labeller(Protocol):
    """The expert's distributions at the states of rollouts."""

    def __call__(self, judged: Sequence[Judged]) -> list[ScoredResponse]: ...


def build_labeller(
    task: StudyTask, source: ProblemSource, base_dir: Path, tokenizer: PreTrainedTokenizerBase
) -> Labeller:
    """The task's expert; `ConfigError` where a program is asked of a source that has none."""
    if task.expert == "self":
        return _self_labeller(task, base_dir)
    if not isinstance(source, DistributionOracle):
        raise ConfigError(
            f"expert 'program' needs a source with oracle_distributions; "
            f"{task.problems.source.name!r} has none"
        )
    return _program_labeller(source, tokenizer)


def feedback_rows(judged: Sequence[Judged], answers: Sequence[ScoredResponse]) -> FeedbackRows:
    """The table that `tabulate` would write, read back."""
    return _rows(
        [
            _row(
                item.rollout.rollout_id,
                item.problem,
                item.consultation.reward or 0.0,
                item.rollout.context_ids,
                item.rollout.response_ids,
                item.rollout.behaviour_logprobs,
                answer,
            )
            for item, answer in zip(judged, answers, strict=True)
        ]
    )


def gold_rows(
    task: StudyTask, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase
) -> FeedbackRows:
    """Each problem's reference as if it were a rollout, its own tokens as labels."""
    rows = []
    for problem in problems:
        segments = render_student(task.context.student_template, problem.prompt)
        response = [*encode_text(tokenizer, problem.reference), _end(tokenizer)]
        answer = _scored([{token: 1.0} for token in response])
        context = encode_context(tokenizer, segments)
        zeros = [0.0] * len(response)
        rows.append(_row(problem.problem_id, problem, 1.0, context, response, zeros, answer))
    return _rows(rows)


def _self_labeller(task: StudyTask, base_dir: Path) -> Labeller:
    options = {"weights": "frozen", "batch_size": 512}
    tabulate = TabulateParams(
        expert=Component(name="self", options=options), top_k=16, top_p=0.9999, rows_per_shard=1024
    )
    expert = build_expert(tabulate, base_dir, COMPUTE, task.context.max_context_tokens)
    renderer = ContextRenderer(task.context, load_tokenizer(base_dir))

    def label(judged: Sequence[Judged]) -> list[ScoredResponse]:
        queries = []
        for item in judged:
            context = renderer.expert(
                item.problem.prompt,
                item.rollout.response,
                item.consultation.verdict,
                item.consultation.feedback,
                item.rollout.rollout_id,
            )
            queries.append(ExpertQuery(context.token_ids, item.rollout.response_ids))
        return [answer.distribution for answer in expert.answer(queries, no_progress)]

    return label


def _program_labeller(source: DistributionOracle, tokenizer: PreTrainedTokenizerBase) -> Labeller:
    ids = tokenizer.get_vocab()
    characters = {index: token for token, index in ids.items() if len(token) == 1}
    end = _end(tokenizer)

    def label(judged: Sequence[Judged]) -> list[ScoredResponse]:
        answers = []
        for item in judged:
            response = item.rollout.response_ids
            attempt = "".join(characters.get(i, _UNREADABLE) for i in response if i != end)
            states = source.oracle_distributions(item.problem, attempt)[: len(response)]
            answers.append(
                _scored(
                    [
                        {
                            ids[character] if character else end: (1.0 - _TAIL_MASS) * mass
                            for character, mass in state.items()
                        }
                        for state in states
                    ]
                )
            )
        return answers

    return label


def _scored(states: Sequence[dict[int, float]]) -> ScoredResponse:
    """Masses by token id at each position; what they leave is the tail."""
    ordered = [sorted(state.items(), key=lambda entry: -entry[1]) for state in states]
    tails = [1.0 - math.fsum(state.values()) for state in states]
    return ScoredResponse(
        counts_t=np.array([len(state) for state in ordered], dtype=np.int32),
        token_ids=np.array([i for state in ordered for i, _ in state], dtype=np.int32),
        logprobs=np.array([math.log(p) for state in ordered for _, p in state], dtype=np.float32),
        tail_logprobs_t=np.array(
            [math.log(tail) if tail > 0 else -math.inf for tail in tails], dtype=np.float32
        ),
    )


def _row(
    rollout_id: str,
    problem: Problem,
    reward: float,
    context_ids: Sequence[int],
    response_ids: Sequence[int],
    behaviour_logprobs: Sequence[float] | NDArray[np.float32],
    answer: ScoredResponse,
) -> FeedbackTableRow:
    return FeedbackTableRow(
        rollout_id=rollout_id,
        problem_id=problem.problem_id,
        reward=reward,
        context_ids=context_ids,
        expert_context_ids=[],
        response_ids=response_ids,
        behaviour_logprobs=behaviour_logprobs,
        has_expert=True,
        expert_counts=answer.counts_t,
        expert_ids=answer.token_ids,
        expert_logprobs=answer.logprobs,
        expert_tail_logprobs=answer.tail_logprobs_t,
    )


def _rows(rows: list[FeedbackTableRow]) -> FeedbackRows:
    return FeedbackRows(FEEDBACK.to_table(rows), {})


def _end(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.eos_token_id)
