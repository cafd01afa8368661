"""The consultation of a rollout: the verifier's verdict and feedback, as a row of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from distil_core.config.models import ConsultParams
from distil_core.errors import DataError, VerifierError
from distil_core.feedback.sources.base import Attempt
from distil_core.problems.base import Problem
from distil_core.tables.schemas import ConsultationRow, RolloutRow
from distil_core.verifiers.base import Verifier


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
    try:
        verification = verifier.verify(problem, rollout.response)
    except VerifierError as error:
        return replace(row, error=str(error))
    truncated = rollout.finish_reason == "length"
    return replace(
        row,
        reward=0.0 if truncated else verification.reward,
        verdict="truncated" if truncated else verification.verdict,
        feedback=verification.feedback,
        isolation=verification.isolation,
    )


def attempts_of(
    rows: Sequence[ConsultationRow],
    rollouts: Sequence[RolloutRow],
    problems: Mapping[str, Problem],
) -> list[Attempt]:
    """The rollouts that have a verdict, in the form that sources of feedback read. rows: from
    `consult`, in the rollouts' order. problems: by id."""
    return [
        Attempt(
            row.rollout_id,
            problem_of(rollout, problems),
            rollout.response,
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
