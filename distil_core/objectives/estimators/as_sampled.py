"""The student under the sampler's own temperature, for objectives that compare it with the sampler.

A sampler draws from softmax(z / temperature), and the behaviour log-probabilities are of that. A
ratio of the same student must be 1, so its numerator takes the temperature too: the policy that is
improved is the one that was sampled. An importance weight of distillation is another matter: it
weighs the sampler's states as the student at temperature 1 visits them, and stays as it is.
"""

from dataclasses import dataclass

from torch import Tensor

from distil_core.objectives.base import ObjectiveBatch


@dataclass(frozen=True)
class BatchAsSampled(ObjectiveBatch):
    """Of rollouts at another temperature than 1, for objectives whose `Options` have
    `scores_as_sampled`.

    as_sampled_logprobs_bt: float, with gradient. log softmax(z / temperature) of y_t under the
        current student.
    """

    as_sampled_logprobs_bt: Tensor | None = None


def as_sampled_logprobs_bt(batch: ObjectiveBatch) -> Tensor:
    """The student's log-probabilities of y_t at the temperature of the behaviour ones; [B, T]."""
    if isinstance(batch, BatchAsSampled) and batch.as_sampled_logprobs_bt is not None:
        return batch.as_sampled_logprobs_bt
    return batch.sampled_logprobs_bt
