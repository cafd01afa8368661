"""Cross-entropy on the expert's labels: imitation of single tokens, not of distributions.

docs/method.md#other-objectives. The label at a position is the token that the expert holds most
likely there; for
a black-box expert asked once that is the very token it wrote. Each label weighs 1 and the states
are taken as given:

    loss = (1/Z) * sum_t m_t * -log pi(argmax_a T_t(a) | s_t)

So there is no importance weight and no credit. The rows decide what the states are: on the
student's rollouts these are hard labels at the student's own states, on rows that hold an expert's
written solution it is plain behaviour cloning (supervised fine-tuning).
"""

import torch
from torch import Tensor

from distil_core.objectives.base import Objective, ObjectiveBatch, ObjectiveOutput
from distil_core.objectives.estimators.matching import MatchedDistributions, matched_distributions
from distil_core.objectives.estimators.reductions import LossOptions, masked_mean, reduce_loss


class Options(LossOptions):
    """Only the loss's normalisation: labels leave nothing else to choose."""


class BehaviourCloning:
    """Callable on an `ObjectiveBatch`; `DataError` where an expert's mass is not 1.

    The tail is not a token, so it is never a label; a position with only a tail has no label. Of
    equally likely tokens the first one stored is the label.
    """

    def __init__(self, options: Options):
        self.options = options

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput:
        matched = matched_distributions(batch)
        label_logprobs_bt, labelled_bt = _labels_bt(matched)
        diagnostics = {
            "label_cross_entropy": masked_mean(-label_logprobs_bt, labelled_bt),
            "rollouts_with_expert": matched.token_mask_bt.any(dim=1).sum(),
            "positions_with_expert": labelled_bt.sum(),
        }
        return reduce_loss(
            -label_logprobs_bt,
            matched.token_mask_bt,
            self.options,
            diagnostics,
            matched.mass_errors_bt,
        )


def _labels_bt(matched: MatchedDistributions) -> tuple[Tensor, Tensor]:
    """log pi of each label (0 where there is none), and where there is a label; both [B, T]."""
    stored_btk = matched.expert_logprobs_btk[..., :-1]
    best_bt = stored_btk.argmax(dim=-1, keepdim=True)
    labelled_bt = stored_btk.gather(-1, best_bt)[..., 0] > -torch.inf
    label_logprobs_bt = matched.student_logprobs_btk.gather(-1, best_bt)[..., 0]
    return torch.where(labelled_bt, label_logprobs_bt, 0.0), labelled_bt


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return BehaviourCloning(options)
