"""Checks against the limits of the settings: what is said, and what is not gone on with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from distil_core.checks.kept import (
    CONSULTATIONS,
    EVALUATION,
    FEEDBACK,
    ROLLOUTS,
    TRAINING,
    CheckedTable,
    table_checks,
    written_by,
)
from distil_core.config.models import MINIMA, CheckLimits, CheckParams, IterationParams
from distil_core.errors import CheckError
from distil_core.pipeline import Stage
from distil_core.workspace import Workspace

Level = Literal["ok", "warn", "alarm", "stop"]

_BEFORE: Mapping[str, tuple[CheckedTable, ...]] = {
    "consult": (ROLLOUTS,),
    "tabulate": (ROLLOUTS, CONSULTATIONS),
    "train": (ROLLOUTS, CONSULTATIONS, FEEDBACK),
    "evaluate": (TRAINING,),
}
"""Tables of its own iteration that a stage does not go on from beyond a limit. `sample` asks the
evaluation of the policy that it samples with."""

_REMEDIES = {
    "failed_share": "see the errors in the table, and mend the engine",
    "truncation_share": "raise max_new_tokens of sample and evaluate",
    "malformed_share": "say the form of answers in context.student_template",
    "without_verdict_share": "see the errors in the table, and mend the verifier",
    "dead_group_share": "a reward alone teaches nothing here: take problems that are solved now "
    "and then, or more rollouts of each",
    "silent_share": "have consult give feedback that context.expert_template names and "
    "context.wording keeps",
    "gradient_norm_max": "nothing was learned: see whether all groups are dead, the expert is "
    "silent, or every response is masked",
    "expert_gain": "have context.expert_template say the feedback so that the expert can read it",
    "mass_error": "the table is not what the expert said: run tabulate again",
}


@dataclass(frozen=True)
class Finding:
    """One check of one table. limit: the one that it is beyond; None where it is within them."""

    table: str
    check: str
    value: float
    level: Level
    limit: float | None

    def line(self) -> str:
        """For people: 'rollouts: truncation_share 0.61, expected at most 0.5
        (checks.truncation_share.stop)'."""
        text = f"{self.table}: {self.check} {self.shown}"
        if self.limit is None:
            return text
        bound = "more than" if self.check in MINIMA else "at most"
        text += f", expected {bound} {self.limit:g} (checks.{self.check}.{self.level})"
        if self.level != "alarm":
            return text
        return f"ALARM: {text}: {_REMEDIES.get(self.check, 'see docs/checks.md')}"

    @property
    def shown(self) -> str:
        """The value as text."""
        if self.value == int(self.value):
            return f"{self.value:.0f}"
        return f"{self.value:.3g}" if abs(self.value) < 0.01 else f"{self.value:.3f}"


def findings(checks: Mapping[str, Mapping[str, float]], limits: CheckParams) -> list[Finding]:
    """All checks, by table and check, against the limits."""
    return [
        _finding(table, name, value, getattr(limits, name, CheckLimits()))
        for table, values in checks.items()
        for name, value in values.items()
    ]


def _finding(table: str, check: str, value: float, limits: CheckLimits) -> Finding:
    by_level: tuple[tuple[Level, float | None], ...] = (
        ("stop", limits.stop),
        ("alarm", limits.alarm),
        ("warn", limits.warn),
    )
    for level, limit in by_level:
        if limit is not None and (value <= limit if check in MINIMA else value > limit):
            return Finding(table, check, value, level, limit)
    return Finding(table, check, value, "ok", None)


def findings_of_stage(workspace: Workspace, stage: Stage, params: IterationParams) -> list[Finding]:
    """Of the tables that a stage has written. Raises `DataError` where one is not here."""
    number = params.iteration
    checks = {table.name: table_checks(workspace, table, number) for table in written_by(stage)}
    return findings(checks, params.checks)


def require_within_limits(workspace: Workspace, stage: Stage, params: IterationParams) -> None:
    """Raise `CheckError` where a table that the stage would go on from is beyond a limit that
    stops."""
    iteration = params.iteration
    asked = [(table, iteration) for table in _BEFORE.get(stage.name, ())]
    found: dict[str, Mapping[str, float]] = {
        table.name: table_checks(workspace, table, iteration)
        for table, _ in asked
        if table.path(workspace, iteration).exists()
    }
    if stage.name == "sample":
        # A copy of the evaluation of whichever policy the gate before handed over.
        parent = workspace.handover_evaluation_file(iteration - 1)
        if parent.exists():
            found["evaluation of the policy to start from"] = EVALUATION.measure(parent)
    stopping = [one for one in findings(found, params.checks) if one.level == "stop"]
    if stopping:
        raise CheckError(_explain(workspace, stage, iteration, stopping))


def _explain(
    workspace: Workspace, stage: Stage, iteration: int, stopping: Iterable[Finding]
) -> str:
    lines, remedies, names = [], [], []
    for one in stopping:
        lines.append(one.line())
        names.append(f"checks.{one.check}.stop")
        remedies.append(_REMEDIES.get(one.check, "see docs/checks.md"))
    frozen = workspace.relative(workspace.frozen_params_file(iteration))
    return (
        f"{stage.address(iteration)} does not begin: {'; '.join(lines)}. All tables are kept. "
        f"Either mend the cause ({'; '.join(dict.fromkeys(remedies))}), or allow it: "
        f"{', '.join(dict.fromkeys(names))} in {frozen}, and in params.yaml for later iterations; "
        "no stage is made anew for a limit"
    )
