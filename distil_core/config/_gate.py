"""Settings of the improvement gate."""

from typing import Annotated, Literal

from pydantic import Field

from distil_core.config._base import NonNegative, Settings


class AlarmParams(Settings):
    """Signs of collapse, each against the champion; null (false) turns one off."""

    min_entropy_ratio: Annotated[float, Field(gt=0, lt=1)] | None
    """Alarm where the entropy per response is below this share of the champion's."""
    max_length_ratio: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None
    """Alarm where responses are this many times longer or shorter than the champion's."""
    pass_at_n_fell: bool
    """Alarm where fewer problems are solved by any of the n samples, the whole interval of the
    difference being below zero."""


class GateParams(Settings):
    """Whether a new policy takes over from the champion so far."""

    margins: dict[str, NonNegative] = Field(min_length=1)
    """By score (pass_at_k, majority_at_n), how far the interval of the paired difference from the
    champion may reach below zero."""
    on_regression: Literal["keep", "stop", "continue"]
    """What follows a policy that is not promoted. keep: the next iteration starts where this one
    did. continue: from the policy all the same. stop: there is no next iteration."""
    alarms: AlarmParams
    """Signs of collapse that bar promotion too."""
