"""Check that a model's logits are what the tiled head assumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distil_core.errors import TrainingError
from distil_core.policy.batching import ResponseBatch, response_hidden, response_logits
from distil_core.policy.known_tokens import head_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Few, as the comparison holds all their logits, some of them twice in double precision.
_COMPARED_TOKENS = 32
# Relative to the largest logit, for other orders of summing, and for half-precision heads.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_TOLERANCE = 2e-2


def softcap(model: PreTrainedModel) -> float | None:
    """The cap of logits: z becomes softcap * tanh(z / softcap), as in Gemma; None where there is
    none."""
    found = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return None if found is None else float(found)


@torch.no_grad()
def require_plain_head(
    model: PreTrainedModel, tokens: ResponseBatch, section: str = "train"
) -> None:
    """Raise `TrainingError` unless the logits are softcap(hidden @ weight + bias). This is compared
    with what the model computes for the first of `tokens`, in two forward passes. section: of the
    settings, for the error."""
    tokens = _first_tokens(tokens, _COMPARED_TOKENS)
    name, head = type(model).__name__, model.get_output_embeddings()
    advice = f"set {section}.tiled_head_above_vocabulary: null, which has the model make its logits"
    # Exactly this class: a subclass or an adapter's layer computes something else with the weight.
    if type(head) is not torch.nn.Linear:
        raise TrainingError(
            f"the head of {name} is {type(head).__name__}, expected torch.nn.Linear: {advice}"
        )
    was_training = model.training
    model.eval()
    expected_btv = response_logits(model, tokens).double()
    hidden_btd = response_hidden(model, tokens)
    model.train(was_training)
    if hidden_btd.shape[-1] != head.in_features:
        raise TrainingError(
            f"the decoder of {name} gives {hidden_btd.shape[-1]} features, its head reads "
            f"{head.in_features}: {advice}"
        )
    weight_vd, bias_v = head_parameters(model)
    found_btv = _capped(
        torch.nn.functional.linear(
            hidden_btd.double(),
            weight_vd.double(),
            None if bias_v is None else bias_v.double(),
        ),
        softcap(model),
    )
    read_bt = tokens.response_mask_bt
    difference = (found_btv - expected_btv)[read_bt].abs().max().item()
    relative = _TOLERANCE.get(head.weight.dtype, _HALF_TOLERANCE)
    allowed = relative * (1 + expected_btv[read_bt].abs().max().item())
    # Written this way so that NaN is refused too.
    if not difference <= allowed:
        raise TrainingError(
            f"the logits of {name} are not the product of its head and the decoder's output: they "
            f"differ by {difference:.3g}, rounding is below {allowed:.3g}: {advice}"
        )


def has_plain_head(model: PreTrainedModel, tokens: ResponseBatch) -> bool:
    """Whether `require_plain_head` passes."""
    try:
        require_plain_head(model, tokens)
    except TrainingError:
        return False
    return True


def _first_tokens(tokens: ResponseBatch, count: int) -> ResponseBatch:
    """The same rows with at most `count` response tokens."""
    length = tokens.response_ids_bt.shape[1]
    kept = min(length, count)
    columns = tokens.input_ids_bs.shape[1] - length + kept
    return ResponseBatch(
        tokens.input_ids_bs[:, :columns],
        tokens.attention_mask_bs[:, :columns],
        tokens.position_ids_bs[:, :columns],
        tokens.response_ids_bt[:, :kept],
        tokens.response_mask_bt[:, :kept],
    )


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    return logits if cap is None else cap * torch.tanh(logits / cap)
