"""KL(pi || T) at the student's states, through the student's whole distribution (SDPO).

docs/method.md#other-objectives. Local only: no credit for the way to a state. It is zero-avoiding
in the direction opposite to DistIL's: an action that the expert needs and the student lacks costs
almost nothing.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from distil_core.objectives.base import Objective, ObjectiveBatch, ObjectiveOutput
from distil_core.objectives.estimators.divergences import reverse_kl_divergence
from distil_core.objectives.estimators.local_matching import local_objective_output
from distil_core.objectives.estimators.matching import MatchedDistributions
from distil_core.objectives.estimators.reductions import DistillationOptions


class Options(DistillationOptions):
    """A bound where the divergence is infinite."""

    expert_floor: Annotated[float, Field(gt=0, lt=1)] = 1e-8
    """No expert mass counts as less, since the divergence is infinite at 0. 1e-8 charges at most
    18.4 nats, and is below any mass that a top-K table stores, so it acts only where the expert has
    (almost) none. Black-box labels have mass on few tokens: there this is a setting that matters,
    not a guard."""


class ReverseKL:
    """Callable on an `ObjectiveBatch`; `DataError` where an expert's mass is not 1."""

    def __init__(self, options: Options):
        self.options = options

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput:
        return local_objective_output(batch, self.options, "reverse_kl", self._divergences_bt)

    def _divergences_bt(self, matched: MatchedDistributions) -> Tensor:
        return reverse_kl_divergence(
            student_logprobs=matched.student_logprobs_btk,
            expert_logprobs=matched.expert_logprobs_btk,
            expert_floor=self.options.expert_floor,
        )


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return ReverseKL(options)
