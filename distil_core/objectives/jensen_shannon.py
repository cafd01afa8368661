"""The Jensen-Shannon divergence between expert and student at the student's states (OPSD).

docs/method.md#other-objectives: w KL(T || M) + (1 - w) KL(pi || M), M = w T + (1 - w) pi. Local
only.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from distil_core.objectives.base import Objective, ObjectiveBatch, ObjectiveOutput
from distil_core.objectives.estimators.divergences import jensen_shannon_divergence
from distil_core.objectives.estimators.local_matching import local_objective_output
from distil_core.objectives.estimators.matching import MatchedDistributions
from distil_core.objectives.estimators.reductions import DistillationOptions


class Options(DistillationOptions):
    """Divided by w the loss tends to forward KL as w goes to 0, and divided by 1 - w to reverse KL
    as w goes to 1. At either end itself it is 0 everywhere, so both are refused."""

    expert_weight: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """w, the expert's share of the mixture; 0.5 is the symmetric divergence."""


class JensenShannon:
    """Callable on an `ObjectiveBatch`; `DataError` where an expert's mass is not 1."""

    def __init__(self, options: Options):
        self.options = options

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput:
        return local_objective_output(batch, self.options, "jensen_shannon", self._divergences_bt)

    def _divergences_bt(self, matched: MatchedDistributions) -> Tensor:
        return jensen_shannon_divergence(
            expert_logprobs=matched.expert_logprobs_btk,
            student_logprobs=matched.student_logprobs_btk,
            expert_weight=self.options.expert_weight,
        )


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return JensenShannon(options)
