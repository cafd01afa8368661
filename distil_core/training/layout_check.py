"""Check that a model keeps rows apart that share a sequence, by computing some rows both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from distil_core.config.models import Layout
from distil_core.errors import TrainingError
from distil_core.training.step_batch import BatchPart
from distil_core.training.student_logprobs import student_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Above rounding, and far below the effect of another row's tokens on a log-probability.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.5}


@torch.no_grad()
def require_rows_apart(
    model: PreTrainedModel,
    part: BatchPart,
    layout: Layout,
    forward_dtype: str,
    tiled_above: int | None = None,
) -> None:
    """Raise `TrainingError` where the layout changes the log-probability of a response token. part:
    in that layout, on the model's device. The model should be in evaluation mode; it takes two
    forward passes."""
    padded_bt, other_bt = (
        student_logprobs(
            *(model, part.tokens, part.expert_ids_btk, forward_dtype, tiled_above, sequences),
            policys=part.policys,
        )[1]
        for sequences in (None, part.sequences)
    )
    difference = float((padded_bt - other_bt)[part.trained.response_mask_bt].abs().max())
    # Written this way so that NaN is refused too.
    if not difference <= _TOLERANCES[forward_dtype]:
        raise TrainingError(
            f"train.layout {layout}: {type(model).__name__} does not keep rows apart there, a "
            f"response token's log-probability differs by {difference:.3g} from that of its row "
            f"alone (rounding is below {_TOLERANCES[forward_dtype]}): set train.layout: padded"
        )
