"""The expert's own accuracy: what it writes when it has read the feedback on the student's attempt.

An expert that is not better than the student has nothing to teach; and its successes, weighed by
the student's probability of them, bound the student's own success (docs/method.md#fact-4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distil_core.config.models import TILED_HEAD_ABOVE, Component
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.evaluation.judging import EXPERT_NOT_ASKED, ExpertScores, JudgedResponse
from distil_core.experts import sampling_of_expert
from distil_core.experts.end_tokens import OtherEnds
from distil_core.feedback.contexts import ContextRenderer
from distil_core.feedback.sources import gather
from distil_core.feedback.sources.base import Attempt, SourceSetting
from distil_core.policy.batching import (
    LOGITS_AT_ONCE,
    ResponseBatch,
    collate,
    response_hidden,
    response_logits,
    vocabulary_size,
)
from distil_core.policy.known_tokens import head_parameters
from distil_core.problems.base import Problem
from distil_core.problems.messages import prompt_of
from distil_core.progress import ProgressCallback
from distil_core.rollouts.sampled import SampledRollout
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.seeds import derive_seed
from distil_core.training.head_logprobs import token_logprobs
from distil_core.training.plain_head import has_plain_head, softcap
from distil_core.training.student_logprobs import is_tiled
from distil_core.verifiers.base import FeedbackItem

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_TOKENS_AT_ONCE = 2**14


@dataclass(frozen=True)
class JudgedAttempt:
    """A student's sample that the expert is to improve on, with all that is said of it."""

    problem: Problem
    sample_index: int
    text: str
    stated_verdict: str
    feedback: tuple[FeedbackItem, ...]

    @property
    def name(self) -> str:
        """Of this attempt alone, within an evaluation."""
        return _name(self.problem, self.sample_index)


def judged_attempts(
    problems: Sequence[Problem],
    judged: Mapping[str, Sequence[JudgedResponse]],
    num_attempts: int,
    sources: Iterable[Component],
    renderer: ContextRenderer,
    setting: SourceSetting,
) -> list[JudgedAttempt]:
    """The first `num_attempts` samples of each problem, with the feedback that `consult` gathers
    on rollouts; without those that leave the expert nothing to read, and without problems that
    lack a verdict.

    judged: each problem's samples. sources: of `consult`. renderer: of the expert's contexts.
    setting: with the weights that sampled them.
    """
    attempts: list[Attempt] = []
    asked: list[Attempt] = []
    places: list[tuple[Problem, int]] = []
    for problem in problems:
        samples = judged[problem.problem_id]
        if any(sample.error is not None for sample in samples):
            continue
        group = [
            Attempt(
                _name(problem, index),
                problem,
                sample.attempt,
                sample.stated_verdict,
                sample.feedback,
            )
            for index, sample in enumerate(samples)
        ]
        attempts += group
        asked += group[:num_attempts]
        places += [(problem, index) for index in range(num_attempts)]
    gathered = gather(sources, attempts, asked, setting)
    return [
        JudgedAttempt(problem, index, attempt.response, attempt.verdict, feedback)
        for (problem, index), attempt, feedback in zip(places, asked, gathered.items, strict=True)
        if renderer.has_feedback(feedback)
    ]


def _name(problem: Problem, sample_index: int) -> str:
    return f"{problem.problem_id}/{sample_index}"


def sample_expert(
    attempts: Sequence[JudgedAttempt],
    sampler: RolloutSampler,
    renderer: ContextRenderer,
    settings: SamplingSettings,
    expert: Component,
    seed: int,
    progress: ProgressCallback,
) -> list[SampledRollout]:
    """One response of the expert for each attempt, in order, from the distributions that are stored
    of it; in an environment it begins a rollout of its own. `DataError` where a context is too
    long. sampler: with the expert's weights. settings: how the student's responses are sampled.
    expert: as in tabulate.expert."""
    requests = []
    for attempt in attempts:
        context = renderer.expert(
            prompt_of(attempt.problem),
            attempt.text,
            attempt.stated_verdict,
            attempt.feedback,
            attempt.name,
        )
        own_seed = derive_seed(seed, "evaluate", "expert", attempt.name)
        requests.append(SampleRequest(context.token_ids, own_seed))
    problems = [attempt.problem for attempt in attempts]
    return sampler.sample(problems, requests, sampling_of_expert(expert, settings), progress)


def expert_scores(
    attempts: Sequence[JudgedAttempt],
    responses: Sequence[JudgedResponse],
    student_logprobs: Mapping[int, float],
) -> dict[str, ExpertScores]:
    """What the expert's columns of the evaluation table say, by problem id.

    responses: the expert's, one for each attempt. student_logprobs: log pi(y | x) of its correct
    ones, by their position. A response without a verdict counts as not asked for.
    """
    found: dict[str, ExpertScores] = {}
    for index, (attempt, response) in enumerate(zip(attempts, responses, strict=True)):
        if response.error is not None:
            continue
        before = found.get(attempt.problem.problem_id, EXPERT_NOT_ASKED)
        scores = replace(before, num_samples=before.num_samples + 1)
        if attempt.sample_index == 0:
            read = "\n".join(item.text for item in attempt.feedback)
            scores = replace(scores, feedback=read, response=response.attempt)
        if response.is_correct:
            scores = replace(
                scores,
                num_correct=scores.num_correct + 1,
                success_student_logprob=scores.success_student_logprob + student_logprobs[index],
                success_logprob=scores.success_logprob + response.logprob,
            )
        found[attempt.problem.problem_id] = scores
    return found


def rollout_logprobs(
    model: PreTrainedModel,
    contexts: Sequence[Sequence[int]],
    rollouts: Sequence[SampledRollout],
    ends: OtherEnds | None,
    temperature: float,
) -> list[float]:
    """log pi of all that an expert wrote in each of its rollouts, in order: the student's, in its
    own contexts and with its own end tokens. ends: None where both end alike."""
    before_turns: list[list[int]] = []
    turns: list[list[int]] = []
    owners: list[int] = []
    for owner, (context_ids, rollout) in enumerate(zip(contexts, rollouts, strict=True)):
        before = list(context_ids)
        for turn in rollout.turns:
            ids = turn.response.token_ids
            written = ids if ends is None else ends.in_response(ids)
            before_turns.append(before)
            turns.append(written)
            owners.append(owner)
            before = [*before, *written, *turn.observation_ids]
    found = [0.0] * len(rollouts)
    logprobs = response_logprobs(model, before_turns, turns, temperature)
    for owner, logprob in zip(owners, logprobs, strict=True):
        found[owner] += logprob
    return found


@torch.inference_mode()
def response_logprobs(
    model: PreTrainedModel,
    contexts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    temperature: float,
    batch_size: int = 64,
    tiled_above: int | None = TILED_HEAD_ABOVE,
) -> list[float]:
    """log pi(y | x) of whole responses, in nats, summed in float64; in order.

    tiled_above: a vocabulary larger than this is read in tiles, as training does, where the
    model's head allows it; memory does not grow with it then. At most batch_size rows at once,
    fewer where they are long.
    """
    if not contexts:
        return []
    longest = max(map(len, responses))
    tiled = is_tiled(model, tiled_above) and has_plain_head(
        model, collate(contexts[:1], responses[:1], str(model.device))
    )
    if tiled:
        num_rows = _TOKENS_AT_ONCE // (max(map(len, contexts)) + longest)
    else:
        num_rows = LOGITS_AT_ONCE // (longest * vocabulary_size(model))
    size = max(1, min(batch_size, num_rows))
    found = []
    for start in range(0, len(contexts), size):
        rows = slice(start, start + size)
        batch = collate(contexts[rows], responses[rows], str(model.device))
        logprobs_bt = (
            _of_tiles(model, batch, temperature) if tiled else _whole(model, batch, temperature)
        )
        found += logprobs_bt.masked_fill(~batch.response_mask_bt, 0.0).sum(1).tolist()
    return found


def _whole(model: PreTrainedModel, batch: ResponseBatch, temperature: float) -> Tensor:
    logits_btv = response_logits(model, batch).double().div_(temperature)
    logprobs_btv = torch.log_softmax(logits_btv, dim=-1)
    return logprobs_btv.gather(-1, batch.response_ids_bt[..., None]).squeeze(-1)


def _of_tiles(model: PreTrainedModel, batch: ResponseBatch, temperature: float) -> Tensor:
    mask_bt = batch.response_mask_bt
    weight_vd, bias_v = head_parameters(model)
    logprobs_n = token_logprobs(
        response_hidden(model, batch)[mask_bt],
        weight_vd,
        batch.response_ids_bt[mask_bt],
        temperature=temperature,
        bias_v=bias_v,
        softcap=softcap(model),
    )
    placed_bt = logprobs_n.new_zeros(mask_bt.shape)
    placed_bt[mask_bt] = logprobs_n
    return placed_bt
