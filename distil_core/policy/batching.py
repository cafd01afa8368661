"""One batch layout for sampling, scoring and training.

Contexts are padded on the left and responses on the right, so that every row's first response token
is in the same column, and the logits of all response positions are one slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distil_core.policy.known_tokens import num_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGITS_AT_ONCE = 2**23
"""How many logits an evaluation holds whole at a time, several times over in double precision."""

TokenIds: TypeAlias = Sequence[int] | NDArray[np.int32]


@dataclass(frozen=True)
class ResponseBatch:
    """input_ids_bs, attention_mask_bs, position_ids_bs: int64 [B, context + response].
    response_ids_bt: int64 [B, T], 0 on padding. response_mask_bt: bool [B, T]."""

    input_ids_bs: Tensor
    attention_mask_bs: Tensor
    position_ids_bs: Tensor
    response_ids_bt: Tensor
    response_mask_bt: Tensor

    def to(self, device: torch.device) -> ResponseBatch:
        """The same batch on another device."""
        return ResponseBatch(*(getattr(self, field.name).to(device) for field in fields(self)))

    def rows(self, part: slice) -> ResponseBatch:
        """Some rows of the batch, with the width unchanged."""
        return ResponseBatch(*(getattr(self, field.name)[part] for field in fields(self)))


def collate(
    contexts: Sequence[TokenIds], responses: Sequence[TokenIds], device: str
) -> ResponseBatch:
    """Rows of token ids as one padded batch. Every context needs at least one token."""
    context_length = max(map(len, contexts))
    response_length = max(map(len, responses))
    shape = (len(contexts), context_length + response_length)
    ids_bs, present_bs = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, (context, response) in enumerate(zip(contexts, responses, strict=True)):
        start, end = context_length - len(context), context_length + len(response)
        ids_bs[row, start:context_length] = context
        ids_bs[row, context_length:end] = response
        present_bs[row, start:end] = 1
    input_ids_bs, attention_mask_bs = torch.from_numpy(ids_bs), torch.from_numpy(present_bs)
    position_ids_bs = (attention_mask_bs.cumsum(1) - 1).clamp(min=0)
    return ResponseBatch(
        input_ids_bs=input_ids_bs.to(device),
        attention_mask_bs=attention_mask_bs.to(device),
        position_ids_bs=position_ids_bs.to(device),
        response_ids_bt=input_ids_bs[:, context_length:].to(device),
        response_mask_bt=attention_mask_bs[:, context_length:].bool().to(device),
    )


def response_logits(model: PreTrainedModel, batch: ResponseBatch) -> Tensor:
    """Logits that predict each response token, [B, T, V] in the model's dtype."""
    num_response = batch.response_ids_bt.shape[1]
    output = model(
        input_ids=batch.input_ids_bs,
        attention_mask=batch.attention_mask_bs,
        position_ids=batch.position_ids_bs,
        logits_to_keep=num_response + 1,
        use_cache=False,
    )
    return output.logits[:, :-1]


def response_hidden(model: PreTrainedModel, batch: ResponseBatch) -> Tensor:
    """The hidden states from which the head predicts each response token, [B, T, d]."""
    output = model.get_decoder()(
        input_ids=batch.input_ids_bs,
        attention_mask=batch.attention_mask_bs,
        position_ids=batch.position_ids_bs,
        use_cache=False,
    )
    num_response = batch.response_ids_bt.shape[1]
    hidden_btd: Tensor = output.last_hidden_state[:, -num_response - 1 : -1]
    return hidden_btd


def vocabulary_size(model: PreTrainedModel) -> int:
    """The number of logits at each position, without a head's padding."""
    return num_logits(model)


def max_positions(model: PreTrainedModel) -> int | None:
    """How many positions the model knows; None where its configuration does not say."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None
