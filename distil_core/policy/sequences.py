"""Rows of a batch in other layouts than one row a sequence, and what a model computes there.

`packing.py` and `prefix_tree.py` make such layouts; `distil_core/training/layout_check.py` finds
models that do not keep the rows apart in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Sequences:
    """The tokens of some rows, in G sequences of S tokens, and where their N response tokens are
    predicted.

    input_ids_gs, position_ids_gs: int64 [G, S]. sees_gss: bool [G, S, S], the tokens that each
    token attends to; None for all tokens before it in its row, where a row begins whenever
    positions restart. predicting_n: index in [G * S] of the token before each response token.
    places_n: index in the batch's [B * T] of that response token.
    """

    input_ids_gs: Tensor
    position_ids_gs: Tensor
    sees_gss: Tensor | None
    predicting_n: Tensor
    places_n: Tensor

    def to(self, device: torch.device) -> Sequences:
        """The same sequences on another device."""
        return Sequences(
            self.input_ids_gs.to(device),
            self.position_ids_gs.to(device),
            None if self.sees_gss is None else self.sees_gss.to(device),
            self.predicting_n.to(device),
            self.places_n.to(device),
        )


def predicted_logits(model: PreTrainedModel, sequences: Sequences) -> Tensor:
    """Logits that predict each response token, [N, V] in the model's dtype."""
    length = sequences.input_ids_gs.shape[1]
    # The model returns logits at the same positions of every sequence.
    kept_c, column_n = (sequences.predicting_n % length).unique(return_inverse=True)
    output = model(**_inputs(model, sequences), logits_to_keep=kept_c, use_cache=False)
    index_n = sequences.predicting_n // length * len(kept_c) + column_n
    logits_nv: Tensor = output.logits.flatten(0, 1).index_select(0, index_n)
    return logits_nv


def predicted_hidden(model: PreTrainedModel, sequences: Sequences) -> Tensor:
    """The hidden states from which the head predicts each response token, [N, d]."""
    output = model.get_decoder()(**_inputs(model, sequences), use_cache=False)
    hidden_nd: Tensor = output.last_hidden_state.flatten(0, 1)[sequences.predicting_n]
    return hidden_nd


def _inputs(model: PreTrainedModel, sequences: Sequences) -> dict[str, Tensor]:
    inputs = {
        "input_ids": sequences.input_ids_gs,
        "position_ids": sequences.position_ids_gs,
    }
    if sequences.sees_gss is not None:
        # It imports transformers, which the model has brought already.
        from distil_core.policy._internals import own_mask

        inputs["attention_mask"] = own_mask(sequences.sees_gss, model.dtype)
    return inputs
