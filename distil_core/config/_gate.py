"""Settings of the improvement gate."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from distil_core.config._base import NonNegative, Settings

_OF_ALL_SAMPLES = ("pass_at_n", "majority_at_n")


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
    champion may reach below zero. `pass_at_n` and `majority_at_n` follow evaluate.num_samples: with
    8 samples they are frozen as pass_at_8 and majority_at_8."""
    on_regression: Literal["keep", "stop", "continue"]
    """What follows a policy that is not promoted. keep: the next iteration starts where this one
    did. continue: from the policy all the same. stop: there is no next iteration."""
    alarms: AlarmParams
    """Signs of collapse that bar promotion too."""
    require_better_expert: bool | None = None
    """Whether an iteration samples and trains only where its expert was measured to be better than
    the policy that it starts from: right more often on the same held-out problems, after it read
    the feedback, with the whole 95% interval of the difference above zero. An expert that is no
    policy, or is not asked (evaluate.num_expert_samples: 0), is not measured and not held up. null
    means true for a pretrained base and an objective that reads the expert, and false for a base
    made here; `distil restart` freezes what it means."""
    keep_champion: bool = False
    """Whether a policy that is handed over without being promoted (on_regression 'continue') takes
    the champion along in its folder, for an expert with weights 'champion'."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Iterations that ask for no better expert, or keep none, are frozen as they always
        were."""
        values: dict[str, Any] = serialise(self)
        if self.require_better_expert is None:
            values.pop("require_better_expert", None)
        if not self.keep_champion:
            values.pop("keep_champion", None)
        return values

    def name_scores(self, num_samples: int) -> None:
        """While settings are read: put the number of samples in place of the n of `pass_at_n`.
        Raises `ValueError` where a score has both names. Of one sample `pass_at_1` is the same
        score, and counts as it is written."""
        named = {name: f"{name.removesuffix('n')}{num_samples}" for name in _OF_ALL_SAMPLES}
        twice = [name for name in named if {name, named[name]} <= self.margins.keys()]
        if twice and num_samples > 1:
            raise ValueError(
                f"gate.margins names one score twice, as {twice[0]} and as {named[twice[0]]}: keep "
                "one"
            )
        given = {name: margin for name, margin in self.margins.items() if name not in twice}
        self.margins.clear()
        self.margins.update({named.get(name, name): margin for name, margin in given.items()})
