"""The consultation of a rollout: the verifier's verdict and feedback, as a row of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from distil_core.config.models import ConsultParams, ContextParams
from distil_core.errors import DataError, VerifierError
from distil_core.feedback.sources import gather
from distil_core.feedback.sources.base import Attempt, SourceSetting
from distil_core.feedback.transcript import attempt_text
from distil_core.problems.base import Problem
from distil_core.progress import ProgressCallback
from distil_core.tables.schemas import ConsultationRow, RolloutRow
from distil_core.verifiers.base import Verifier
from distil_core.verifiers.pool import Journal, JournalVerifier, VerificationJob, verify_all


def consult_all(
    rollouts: Sequence[RolloutRow],
    problems: Mapping[str, Problem],
    params: ConsultParams,
    context: ContextParams,
    num_workers: int,
    journal: Journal,
    setting: SourceSetting,
    progress: ProgressCallback,
) -> tuple[list[ConsultationRow], dict[str, Any]]:
    """A row for each rollout, in order, with the feedback of all sources; and what the sources
    report. Rollouts that their environment judged are not verified.

    problems: by id. context: the campaign's. num_workers: verifiers at a time. setting: what the
    sources are asked with. Raises `DataError` where a rollout is of no problem.
    """
    answered = [one for one in rollouts if one.error is None and _own_verdict(one) is None]
    jobs = (
        VerificationJob(problem_of(rollout, problems), rollout.response) for rollout in answered
    )
    verify_all(jobs, len(answered), params, num_workers, journal, progress)
    verifier = JournalVerifier(journal)
    rows = [consult(verifier, problem_of(one, problems), one) for one in rollouts]
    attempts = attempts_of(rows, rollouts, problems, context)
    gathered = gather(params.sources, attempts, attempts, setting)
    feedback = {
        attempt.name: items for attempt, items in zip(attempts, gathered.items, strict=True)
    }
    rows = [replace(row, feedback=feedback.get(row.rollout_id, ())) for row in rows]
    return rows, gathered.report


def consult(verifier: Verifier, problem: Problem, rollout: RolloutRow) -> ConsultationRow:
    """Consult the verifier about one rollout. A truncated response gets no reward, whatever it
    holds; a failed rollout or verifier gives a row with the error and no reward."""
    row = ConsultationRow(
        rollout_id=rollout.rollout_id,
        reward=None,
        verdict="error",
        feedback=(),
        isolation=None,
        error=rollout.error,
    )
    if rollout.error is not None:
        return row
    truncated = rollout.finish_reason == "length"
    if (verdict := _own_verdict(rollout)) is not None:
        last = rollout.turns[-1]
        return replace(row, reward=last.reward, verdict=verdict, isolation=last.isolation)
    try:
        verification = verifier.verify(problem, rollout.response)
    except VerifierError as error:
        return replace(row, error=str(error))
    return replace(
        row,
        reward=0.0 if truncated else verification.reward,
        verdict="truncated" if truncated else verification.verdict,
        feedback=verification.feedback,
        isolation=verification.isolation,
    )


def _own_verdict(rollout: RolloutRow) -> str | None:
    """The environment's verdict, where it judges and the rollout came to its end."""
    if not rollout.turns or rollout.finish_reason == "length":
        return None
    return rollout.turns[-1].verdict


def attempts_of(
    rows: Sequence[ConsultationRow],
    rollouts: Sequence[RolloutRow],
    problems: Mapping[str, Problem],
    context: ContextParams,
) -> list[Attempt]:
    """The rollouts that have a verdict, in the form that sources of feedback read. rows: from
    `consult`, in the rollouts' order. problems: by id. context: the campaign's."""
    return [
        Attempt(
            row.rollout_id,
            problem_of(rollout, problems),
            attempt_text(rollout, context),
            row.verdict,
            row.feedback,
        )
        for rollout, row in zip(rollouts, rows, strict=True)
        if row.reward is not None
    ]


def problem_of(rollout: RolloutRow, problems: Mapping[str, Problem]) -> Problem:
    """The rollout's problem. Raises `DataError` where it is not among `problems`."""
    problem = problems.get(rollout.problem_id)
    if problem is None:
        raise DataError(
            f"rollout {rollout.rollout_id} is of problem {rollout.problem_id}, which is "
            "not in data/problems/train.parquet: sample again"
        )
    return problem


def non_default_settings(params: ConsultParams) -> dict[str, Any]:
    """The settings without those that are off or have their usual value."""
    defaults = {
        name: field.default
        for name, field in ConsultParams.model_fields.items()
        if not field.is_required()
    }
    return {
        name: value
        for name, value in params.model_dump().items()
        if name not in defaults or value not in (None, defaults[name])
    }
