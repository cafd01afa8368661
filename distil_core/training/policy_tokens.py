"""The policy's tokens of rollouts in which an environment wrote others between them.

A model reads all tokens. Everything that training computes of them is computed of the policy's
alone, one after another: in the arrays of a batch there is no place for a token of the
environment. So it has no loss and no gradient, and is no position of a discount, a horizon or a
baseline, whatever the objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distil_core.policy.batching import ResponseBatch
from distil_core.policy.sequences import Sequences


@dataclass(frozen=True)
class Turns:
    """Of one rollout. ids: all tokens after the context. lengths: how many of them the policy
    wrote, then the environment, then the policy, .. marked: turns, from 0, that the environment
    marks. rewards: the environment's of each turn, NaN where it gave none; empty where it gave no
    turn any."""

    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    marked: NDArray[np.int32]
    rewards: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def is_policys(self) -> NDArray[np.bool_]:
        """Which of all tokens the policy wrote."""
        by_whom = np.arange(len(self.lengths)) % 2 == 0
        return np.repeat(by_whom, self.lengths)

    @property
    def numbers_t(self) -> NDArray[np.int64]:
        """The turn of each of the policy's T tokens, from 0."""
        lengths = self.lengths[::2]
        return np.repeat(np.arange(len(lengths)), lengths)


@dataclass(frozen=True)
class PolicyTokens:
    """The policy's T tokens of each row, of S after the context. They stand for a `ResponseBatch`
    wherever its response is meant.

    response_ids_bt: int64 [B, T], anything on padding. response_mask_bt: bool [B, T]. columns_bt:
    int64 [B, T], the place of each among the S; on padding that of a token that is not the
    policy's. No place is there twice.
    """

    response_ids_bt: Tensor
    response_mask_bt: Tensor
    columns_bt: Tensor

    def to(self, device: torch.device) -> PolicyTokens:
        """The same on another device."""
        return PolicyTokens(*(getattr(self, one.name).to(device) for one in fields(self)))

    def rows(self, part: slice) -> PolicyTokens:
        """Of some rows, with the width unchanged."""
        return PolicyTokens(*(getattr(self, one.name)[part] for one in fields(self)))

    def picked(self, values_bs: Tensor) -> Tensor:
        """Of values at all S tokens, [B, S, ..], those at the policy's, [B, T, ..]."""
        rows_b1 = (
            torch.arange(len(values_bs), device=values_bs.device)[:, None] * values_bs.shape[1]
        )
        places_n = (rows_b1 + self.columns_bt).flatten()
        picked_n = values_bs.flatten(0, 1).index_select(0, places_n)
        return picked_n.unflatten(0, self.columns_bt.shape)

    def predicted(self, sequences: Sequences, width: int) -> Sequences:
        """Sequences that predict the policy's tokens alone, from those that predict all S of a
        row. width: S."""
        num_rows, length = self.columns_bt.shape
        place_bs = torch.full((num_rows, width), -1, device=self.columns_bt.device)
        own_bt = torch.arange(num_rows * length, device=place_bs.device).view(num_rows, length)
        place_bs.scatter_(1, self.columns_bt, own_bt.masked_fill(~self.response_mask_bt, -1))
        places_n = place_bs.flatten()[sequences.places_n]
        kept_n = places_n >= 0
        return replace(
            sequences,
            predicting_n=sequences.predicting_n[kept_n],
            places_n=places_n[kept_n],
        )


def policy_tokens(turns: Sequence[Turns | None], tokens: ResponseBatch) -> PolicyTokens | None:
    """Of these rows, on the device of their tokens; None where the policy wrote all tokens of every
    row. turns: of each row, None where the policy wrote all of it."""
    if not any(turns):
        return None
    policys_bs = tokens.response_mask_bt.clone()
    for row, of_row in enumerate(turns):
        if of_row is not None:
            policys_bs[row, : len(of_row.ids)] &= torch.from_numpy(of_row.is_policys).to(
                policys_bs.device
            )
    lengths_b = policys_bs.sum(1)
    length = int(lengths_b.max())
    # The policy's come first, in their order.
    columns_bt = policys_bs.int().argsort(dim=1, descending=True, stable=True)[:, :length]
    return PolicyTokens(
        response_ids_bt=tokens.response_ids_bt.gather(1, columns_bt),
        response_mask_bt=torch.arange(length, device=lengths_b.device) < lengths_b[:, None],
        columns_bt=columns_bt,
    )


def turn_numbers_bt(turns: Sequence[Turns | None], length: int) -> Tensor:
    """The turn of each of the policy's tokens, int64 [B, T]; 0 where the policy wrote all of a row,
    and the last one's number on padding."""
    numbers_bt = np.zeros((len(turns), length), np.int64)
    for row, of_row in enumerate(turns):
        if of_row is not None:
            numbers_t = of_row.numbers_t
            numbers_bt[row, : len(numbers_t)] = numbers_t
            numbers_bt[row, len(numbers_t) :] = numbers_t[-1]
    return torch.from_numpy(numbers_bt)


def marked_bt(turns: Sequence[Turns | None], length: int) -> Tensor:
    """Which of the policy's tokens are of a turn that the environment marks, bool [B, T]."""
    marked = np.zeros((len(turns), length), np.bool_)
    for row, of_row in enumerate(turns):
        if of_row is not None:
            found_t = np.isin(of_row.numbers_t, of_row.marked)
            marked[row, : len(found_t)] = found_t
    return torch.from_numpy(marked)


def turn_rewards_bn(turns: Sequence[Turns | None]) -> tuple[Tensor, Tensor]:
    """The environment's reward of each of N turns, 0 where there is none, float32 [B, N]; and how
    many turns each row has, at least 1, int64 [B]."""
    counts = [1 if of_row is None else (len(of_row.lengths) + 1) // 2 for of_row in turns]
    rewards_bn = np.zeros((len(turns), max(counts)), np.float32)
    for row, of_row in enumerate(turns):
        if of_row is not None:
            rewards_bn[row, : len(of_row.rewards)] = np.nan_to_num(of_row.rewards)
    return torch.from_numpy(rewards_bn), torch.tensor(counts)
