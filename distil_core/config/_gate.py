"""Settings of the improvement gate."""

from typing import Annotated, Literal

from pydantic import Field

from distil_core.config._base import NonNegative, Settings


class AlarmParams(Settings):
    """Signs of collapse, each against the champion; null (false) turns one off.

    min_entropy_ratio: entropy per response below this share of the champion's.
    max_length_ratio: responses this many times longer or shorter. pass_at_n_fell: fewer problems
    are solved by any of the n samples, the whole interval of the difference being below zero.
    """

    min_entropy_ratio: Annotated[float, Field(gt=0, lt=1)] | None
    max_length_ratio: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None
    pass_at_n_fell: bool


class GateParams(Settings):
    """margins: by score (pass_at_k, majority_at_n), how far the interval of the paired difference
    from the champion may reach below zero.

    on_regression: what follows a policy that is not promoted. keep: the next iteration starts where
    this one did. continue: from the policy all the same. stop: there is no next iteration.
    """

    margins: dict[str, NonNegative] = Field(min_length=1)
    on_regression: Literal["keep", "stop", "continue"]
    alarms: AlarmParams
