"""What an evaluation asks of the engine, and how its responses are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distil_core.config.models import ConsultParams, EvaluateParams
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.evaluation.judging import JudgedResponse, judge_samples, require_verdicts
from distil_core.problems.base import Problem
from distil_core.progress import ProgressCallback
from distil_core.rollouts.sampled import SampledRollout
from distil_core.seeds import derive_seed
from distil_core.verifiers.pool import Journal, JournalVerifier, VerificationJob, verify_all


def sampling_settings(params: EvaluateParams) -> SamplingSettings:
    """The distribution that an evaluation's responses are drawn from."""
    return SamplingSettings(params.max_new_tokens, params.temperature, params.top_p)


def evaluation_requests(
    problems: Sequence[Problem],
    contexts: Sequence[Sequence[int]],
    num_samples: int,
    seed: int,
) -> list[SampleRequest]:
    """`num_samples` of each problem, one after another. contexts: the student's, as token ids, in
    the problems' order. seed: the campaign's."""
    return [
        # Not by iteration: the same numbers for every policy make differences sharper.
        SampleRequest(context, derive_seed(seed, "evaluate", problem.problem_id, index))
        for problem, context in zip(problems, contexts, strict=True)
        for index in range(num_samples)
    ]


def verify_and_judge(
    problems: Sequence[Problem],
    samples: Sequence[SampledRollout],
    params: ConsultParams,
    num_workers: int,
    journal: Journal,
    progress: ProgressCallback,
) -> list[JudgedResponse]:
    """Each sample with its verdict, problems and samples in one order. `VerifierError` where too
    many have none."""
    jobs = [
        VerificationJob(problem, sample.answer)
        for problem, sample in zip(problems, samples, strict=True)
        if sample.error is None and sample.verdict is None
    ]
    verify_all(iter(jobs), len(jobs), params, num_workers, journal, progress)
    judged = judge_samples(problems, samples, JournalVerifier(journal))
    require_verdicts(judged)
    return judged


def by_problem(
    problems: Sequence[Problem], judged: Sequence[JudgedResponse], num_samples: int
) -> Mapping[str, Sequence[JudgedResponse]]:
    """The samples of each problem, in the order of `evaluation_requests`."""
    return {
        problem.problem_id: judged[index * num_samples : (index + 1) * num_samples]
        for index, problem in enumerate(problems)
    }
