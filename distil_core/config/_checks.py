"""Limits of the checks that each table is put to."""

from typing import Any

from pydantic import ValidationInfo, field_validator, model_validator

from distil_core.config._base import Finite, Settings

MINIMA = frozenset({"expert_gain", "gradient_norm_max"})
"""Checks whose value has to be above its limits; all others may not be above theirs."""


class CheckLimits(Settings):
    """What the value of a check may be at most; null for no limit."""

    warn: Finite | None = None
    """Beyond it a warning is shown wherever the check is."""
    alarm: Finite | None = None
    """Beyond it the warning is an alarm: in red, with what to do."""
    stop: Finite | None = None
    """Beyond it no further stage works on the table; what there is stays."""


class CheckParams(Settings):
    """Limits by check, as `truncation_share: {warn: 0.2, stop: 0.5}`. They say what is shown and
    what is gone on with, never what a table holds: no stage in dvc.yaml depends on them. A limit
    that is left out keeps its default (docs/checks.md)."""

    failed_share: CheckLimits = CheckLimits(warn=0.05)
    """Rollouts that the engine could not sample."""
    truncation_share: CheckLimits = CheckLimits(warn=0.2, alarm=0.999)
    """Responses cut at max_new_tokens, of rollouts and in the evaluation."""
    duplicate_share: CheckLimits = CheckLimits()
    """Rollouts with the same tokens as an earlier one of the same problem."""
    bad_logprob_share: CheckLimits = CheckLimits(warn=0.0)
    """Sampled tokens whose stored log-probability is above zero or no number."""
    without_verdict_share: CheckLimits = CheckLimits(warn=0.05)
    """Rollouts, or problems of the evaluation, that lack a verdict."""
    malformed_share: CheckLimits = CheckLimits(warn=0.5)
    """Responses that break the task's format, of rollouts and in the evaluation."""
    dead_group_share: CheckLimits = CheckLimits(alarm=0.999)
    """Problems whose rollouts all have the same reward, which says nothing to a reward's
    gradient."""
    without_feedback_share: CheckLimits = CheckLimits()
    """Rollouts about which no feedback was given."""
    silent_share: CheckLimits = CheckLimits(warn=0.5, alarm=0.999)
    """Rollouts about which the expert has nothing to say."""
    unlabelled_share: CheckLimits = CheckLimits()
    """Tokens without a distribution of the expert, in rollouts that have an expert."""
    mass_error: CheckLimits = CheckLimits(stop=0.01)
    """How far the expert's stored probabilities and their tail are from 1 at the worst token."""
    gradient_norm_max: CheckLimits = CheckLimits(alarm=1e-6)
    """The largest gradient norm of all training steps of an iteration, before clipping; it has to
    be above its limits. Near zero, nothing was learned."""
    expert_gain: CheckLimits = CheckLimits(warn=0.0)
    """How much more often the expert is right, with feedback, than the student without, on the same
    held-out problems; it has to be above its limits. Of the policy that an iteration starts from,
    its stop is asked for before anything is sampled."""

    @field_validator("*", mode="before")
    @classmethod
    def _with_defaults(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        return cls.model_fields[str(info.field_name)].default.model_dump() | value

    @model_validator(mode="after")
    def _warns_before_it_stops(self) -> "CheckParams":
        for name in type(self).model_fields:
            limits: CheckLimits = getattr(self, name)
            if limits.warn is None or limits.stop is None:
                continue
            if limits.warn < limits.stop if name in MINIMA else limits.warn > limits.stop:
                raise ValueError(
                    f"checks.{name}: warns at {limits.warn} but stops at {limits.stop} already: "
                    "exchange them, or set warn to null"
                )
        return self
