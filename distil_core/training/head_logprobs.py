"""From hidden states to what an objective reads, without ever holding all logits.

The language-model head takes most of the memory of a training step: the logits of 4,096 tokens over
a vocabulary of 151,936 are 2.5 GB, and a loss keeps several tensors of that size. Here the logits
are computed one tile at a time, reduced and dropped, and computed again for the gradient.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

# Matrix products of fewer rows may sum in another order, and one token's result then depends on
# how many others are beside it. Multiples of 64 do not (tests/training/test_head_logprobs.py).
ROW_MULTIPLE = 64
# Not a setting, as the order in which a token's masses are summed depends on it.
_VOCABULARY_TILE = 4096


def head_logprobs(
    hidden_nd: Tensor,
    weight_vd: Tensor,
    expert_ids_nk: Tensor,
    sampled_ids_n: Tensor,
    *,
    bias_v: Tensor | None = None,
    softcap: float | None = None,
    chunk_tokens: int = 1024,
) -> tuple[Tensor, Tensor]:
    """The student's log-mass on each stored id and on the tail, [N, K + 1], and of y_t, [N].

    hidden_nd: what the head reads, of the N positions that predict a response token.
    weight_vd, bias_v: of the head; used in the dtype of the hidden states.
    expert_ids_nk: int64, distinct in a row; the vocabulary's size marks padding.
    sampled_ids_n: int64, y_t; among the stored ids or not.
    softcap: logits z are softcap * tanh(z / softcap), as Gemma's final_logit_softcapping.
    chunk_tokens: positions at a time, a multiple of 64. Memory grows with it; the result for a
        token does not depend on it, the weight's gradient by rounding only.

    Results are float32 (float64 for float64 hidden states), as are all sums. The tail is summed
    over its own tokens, so it is exact however small; an empty tail and padding get a finite value
    without gradient. Gradients reach hidden_nd, weight_vd and bias_v, once differentiable.
    `ValueError` on an id outside of the vocabulary or stored twice, or another chunk_tokens.
    """
    if chunk_tokens < ROW_MULTIPLE or chunk_tokens % ROW_MULTIPLE:
        raise ValueError(f"chunk_tokens must be a multiple of {ROW_MULTIPLE}, not {chunk_tokens}")
    _require_ids(expert_ids_nk, sampled_ids_n, len(weight_vd))
    num_tokens = len(hidden_nd)
    missing = -num_tokens % ROW_MULTIPLE
    buckets_nk, sampled_n = _HeadLogprobs.apply(  # type: ignore[no-untyped-call]
        pad(hidden_nd, (0, 0, 0, missing)),
        weight_vd,
        bias_v,
        pad(expert_ids_nk, (0, 0, 0, missing), value=len(weight_vd)),
        pad(sampled_ids_n, (0, missing)),
        softcap,
        chunk_tokens,
    )
    return buckets_nk[:num_tokens], sampled_n[:num_tokens]


def token_logprobs(
    hidden_nd: Tensor,
    weight_vd: Tensor,
    ids_n: Tensor,
    *,
    temperature: float,
    bias_v: Tensor | None = None,
    softcap: float | None = None,
    chunk_tokens: int = 1024,
) -> Tensor:
    """log softmax(logits / temperature) of one id at each position, float64 [N], without gradient.

    Arguments as for `head_logprobs`; ids_n: int64. Logits are as there, and all sums are in
    float64.
    """
    missing = -len(hidden_nd) % ROW_MULTIPLE
    head = _Head(pad(hidden_nd, (0, 0, 0, missing)), weight_vd, bias_v, softcap, chunk_tokens)
    padded_n = pad(ids_n, (0, missing))
    chosen_n = hidden_nd.new_zeros(len(padded_n), dtype=torch.float64)
    max_n, sum_n = torch.full_like(chosen_n, -torch.inf), torch.zeros_like(chosen_n)
    for tile in head.vocabulary_tiles:
        weight_wd = head.weight_tile(tile)
        for chunk in head.chunks:
            tile_logits_cw = head.logits(chunk, tile, weight_wd)
            places_c, inside_c1 = head.places(padded_n[chunk, None], tile)
            found_c = head.buffer[places_c].double() / temperature
            logits_cw = tile_logits_cw.double() / temperature
            chosen_n[chunk] = torch.where(inside_c1[:, 0], found_c, chosen_n[chunk])
            new_max_c = torch.maximum(max_n[chunk], logits_cw.amax(-1))
            sum_c = logits_cw.sub_(new_max_c[:, None]).exp_().sum(-1)
            sum_n[chunk] = sum_n[chunk] * (max_n[chunk] - new_max_c).exp() + sum_c
            max_n[chunk] = new_max_c
    return (chosen_n - max_n - sum_n.log())[: len(hidden_nd)]


def _require_ids(expert_ids_nk: Tensor, sampled_ids_n: Tensor, vocabulary_size: int) -> None:
    if not len(sampled_ids_n):
        return
    if sampled_ids_n.min() < 0 or sampled_ids_n.max() >= vocabulary_size:
        raise ValueError(
            f"sampled ids must be in [0, {vocabulary_size}), found "
            f"{sampled_ids_n.min().item()} to {sampled_ids_n.max().item()}"
        )
    sorted_nk = expert_ids_nk.sort(dim=-1).values
    if sorted_nk[:, 0].min() < 0 or sorted_nk[:, -1].max() > vocabulary_size:
        raise ValueError(
            f"expert ids must be in [0, {vocabulary_size}], of which the last is padding, found "
            f"{sorted_nk.min().item()} to {sorted_nk.max().item()}"
        )
    twice_nk = (sorted_nk[:, 1:] == sorted_nk[:, :-1]) & (sorted_nk[:, 1:] < vocabulary_size)
    if twice_nk.any():
        position = int(twice_nk.any(-1).nonzero()[0])
        raise ValueError(
            f"expert ids must be distinct at each position, found one twice at position {position}"
        )


class _Head:
    """The head's logits, one tile of tokens x vocabulary at a time, in one reused buffer.

    Tiles lie in a flat buffer with one element more than they need. An id outside the current tile
    is read from and written to that element, so that no operation depends on which ids there are.
    """

    def __init__(
        self,
        hidden_nd: Tensor,
        weight_vd: Tensor,
        bias_v: Tensor | None,
        softcap: float | None,
        chunk_tokens: int,
    ) -> None:
        self.dtype = torch.promote_types(hidden_nd.dtype, torch.float32)
        # Products of half-precision operands that sum in float32 exist on CUDA only.
        self.operand_dtype = hidden_nd.dtype if hidden_nd.is_cuda else self.dtype
        self.half_dtype = hidden_nd.dtype
        self.hidden_nd = hidden_nd.to(self.operand_dtype)
        self.weight_vd, self.bias_v, self.softcap = weight_vd, bias_v, softcap
        self.vocabulary_size = len(weight_vd)
        num_tokens = len(hidden_nd)
        self.chunks = [
            slice(start, min(start + chunk_tokens, num_tokens))
            for start in range(0, num_tokens, chunk_tokens)
        ]
        self.vocabulary_tiles = [
            slice(start, min(start + _VOCABULARY_TILE, self.vocabulary_size))
            for start in range(0, self.vocabulary_size, _VOCABULARY_TILE)
        ]
        rows = min(chunk_tokens, num_tokens)
        self.buffer = hidden_nd.new_zeros(
            rows * min(_VOCABULARY_TILE, self.vocabulary_size) + 1, dtype=self.dtype
        )

    def weight_tile(self, tile: slice) -> Tensor:
        """The tile's weights [width, d], rounded to the dtype of the hidden states."""
        return self.weight_vd[tile].to(self.half_dtype).to(self.operand_dtype)

    def logits(self, chunk: slice, tile: slice, weight_wd: Tensor) -> Tensor:
        """A view of the buffer, [chunk, width], valid until the next call."""
        shape = (chunk.stop - chunk.start, tile.stop - tile.start)
        logits_cw = self.buffer[: shape[0] * shape[1]].view(shape)
        product_into(logits_cw, self.hidden_nd[chunk], weight_wd.t(), add=False)
        if self.bias_v is not None:
            logits_cw += self.bias_v[tile].to(self.half_dtype).to(self.dtype)
        if self.softcap is not None:
            logits_cw.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits_cw

    def places(self, ids_ck: Tensor, tile: slice) -> tuple[Tensor, Tensor]:
        """The flat index in the buffer of each id's logit, and whether the id is in this tile."""
        width = tile.stop - tile.start
        inside_ck = (ids_ck >= tile.start) & (ids_ck < tile.stop)
        rows_c1 = torch.arange(len(ids_ck), device=ids_ck.device)[:, None] * width
        nowhere = len(self.buffer) - 1
        places_ck = torch.where(inside_ck, rows_c1 + ids_ck - tile.start, nowhere)
        return places_ck.flatten(), inside_ck


def product_into(out: Tensor, left: Tensor, right: Tensor, *, add: bool) -> None:
    """out = left @ right, or out += left @ right; summed in the dtype of `out`."""
    if left.dtype == out.dtype:
        torch.addmm(out, left, right, beta=int(add), out=out)
    elif add:
        torch.addmm(out, left, right, out_dtype=out.dtype, out=out)
    else:
        torch.mm(left, right, out_dtype=out.dtype, out=out)


class _HeadLogprobs(torch.autograd.Function):
    """The gradient, with S the stored ids, q the tail's mass, g the incoming gradients and G their
    sum: d/dz_a = g_a - G p_a on stored ids and (g_tail - G q) p_a / q elsewhere, with g_y added on
    y_t. p_a / q is computed from the logits directly, so that a tiny q costs only the rounding of
    its logarithm."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_nd: Tensor,
        weight_vd: Tensor,
        bias_v: Tensor | None,
        expert_ids_nk: Tensor,
        sampled_ids_n: Tensor,
        softcap: float | None,
        chunk_tokens: int,
    ) -> tuple[Tensor, Tensor]:
        head = _Head(hidden_nd, weight_vd, bias_v, softcap, chunk_tokens)
        ids_nj = torch.cat([expert_ids_nk, sampled_ids_n[:, None]], dim=-1)
        logits_nj, tail_lse_n = _reduce(head, ids_nj)
        padding_nk = expert_ids_nk == head.vocabulary_size
        empty_n = tail_lse_n == -torch.inf
        scores_nk = torch.cat(
            [logits_nj[:, :-1].masked_fill(padding_nk, -torch.inf), tail_lse_n[:, None]], dim=-1
        )
        lse_n = scores_nk.logsumexp(-1)
        unread_nk = torch.cat([padding_nk, empty_n[:, None]], dim=-1)
        floor = torch.finfo(head.dtype).min / 4
        buckets_nk = (scores_nk - lse_n[:, None]).masked_fill(unread_nk, floor)
        sampled_n = logits_nj[:, -1] - lse_n
        ctx.save_for_backward(
            hidden_nd, weight_vd, bias_v, ids_nj, buckets_nk, sampled_n, tail_lse_n, unread_nk
        )
        ctx.softcap, ctx.chunk_tokens = softcap, chunk_tokens
        return buckets_nk, sampled_n

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_buckets_nk: Tensor, grad_sampled_n: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden_nd, weight_vd, bias_v, ids_nj, buckets_nk, sampled_n, tail_lse_n, unread_nk = (
            ctx.saved_tensors
        )
        head = _Head(hidden_nd, weight_vd, bias_v, ctx.softcap, ctx.chunk_tokens)
        grads_nk = grad_buckets_nk.masked_fill(unread_nk, 0.0)
        total_n = grads_nk.sum(-1) + grad_sampled_n
        empty_n = unread_nk[:, -1]
        factor_n = (grads_nk[:, -1] - total_n * buckets_nk[:, -1].exp()).masked_fill(empty_n, 0.0)
        shift_n = tail_lse_n.masked_fill(empty_n, 0.0)
        is_sampled_nk = ids_nj[:, :-1] == ids_nj[:, -1:]
        stored_grads_nk = (
            grads_nk[:, :-1]
            - total_n[:, None] * buckets_nk[:, :-1].exp()
            + is_sampled_nk * grad_sampled_n[:, None]
        )
        # In the tail, y_t gets its share of the tail's gradient in addition to its own.
        log_tail_mass_n = buckets_nk[:, -1].masked_fill(empty_n, 0.0)
        sampled_grads_n = factor_n * (sampled_n - log_tail_mass_n).exp() + grad_sampled_n
        sampled_ids_n = ids_nj[:, -1].masked_fill(is_sampled_nk.any(-1), head.vocabulary_size)
        gradients = _gradients(
            head,
            torch.cat([ids_nj[:, :-1], sampled_ids_n[:, None]], dim=-1),
            torch.cat([stored_grads_nk, sampled_grads_n[:, None]], dim=-1),
            factor_n,
            shift_n,
            ctx.needs_input_grad[:3],
        )
        return (*gradients, None, None, None, None)


def _reduce(head: _Head, ids_nj: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of each id, [N, J], and log sum exp over all other logits, [N], which is -inf where
    there are none. Of `ids_nj` the last column (y_t) is not a stored id."""
    num_tokens = len(ids_nj)
    logits_nj = head.buffer.new_zeros(ids_nj.shape)
    max_n = head.buffer.new_full((num_tokens,), -torch.inf)
    sum_n = head.buffer.new_zeros(num_tokens)
    for tile in head.vocabulary_tiles:
        weight_wd = head.weight_tile(tile)
        for chunk in head.chunks:
            tile_logits_cw = head.logits(chunk, tile, weight_wd)
            places, inside_cj = head.places(ids_nj[chunk], tile)
            found_cj = head.buffer[places].view(inside_cj.shape)
            logits_nj[chunk] = torch.where(inside_cj, found_cj, logits_nj[chunk])
            stored = places.view(inside_cj.shape)[:, :-1].flatten()
            head.buffer.scatter_(0, stored, -torch.inf)
            new_max_c = torch.maximum(max_n[chunk], tile_logits_cw.amax(-1))
            shift_c = new_max_c.masked_fill(new_max_c == -torch.inf, 0.0)
            sum_c = tile_logits_cw.sub_(shift_c[:, None]).exp_().sum(-1)
            sum_n[chunk] = sum_n[chunk] * (max_n[chunk] - shift_c).exp() + sum_c
            max_n[chunk] = new_max_c
    return logits_nj, max_n + sum_n.log()


def _gradients(
    head: _Head,
    ids_nj: Tensor,
    grads_nj: Tensor,
    factor_n: Tensor,
    shift_n: Tensor,
    needed: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of hidden states, weight and bias, for logits z with gradient grads_nj on ids_nj
    and factor_n * exp(z - shift_n) elsewhere. One tile of the weight's gradient is finished before
    the next."""
    hidden_nd, weight_vd, bias_v = head.hidden_nd, head.weight_vd, head.bias_v
    grad_hidden_nd = torch.zeros_like(hidden_nd, dtype=head.dtype) if needed[0] else None
    grad_weight_vd = torch.empty_like(weight_vd) if needed[1] else None
    grad_bias_v = torch.empty_like(bias_v) if bias_v is not None and needed[2] else None
    for tile in head.vocabulary_tiles:
        weight_wd = head.weight_tile(tile)
        grad_weight_wd = torch.zeros_like(weight_wd, dtype=head.dtype) if needed[1] else None
        grad_bias_w = head.buffer.new_zeros(len(weight_wd))
        for chunk in head.chunks:
            grad_cw = head.logits(chunk, tile, weight_wd)
            slope_cw = None if head.softcap is None else 1 - (grad_cw / head.softcap).square()
            grad_cw.sub_(shift_n[chunk, None]).exp_().mul_(factor_n[chunk, None])
            places, _ = head.places(ids_nj[chunk], tile)
            head.buffer.scatter_(0, places, grads_nj[chunk].flatten())
            if slope_cw is not None:
                grad_cw *= slope_cw
            operand_cw = grad_cw.to(head.operand_dtype)
            if grad_hidden_nd is not None:
                product_into(grad_hidden_nd[chunk], operand_cw, weight_wd, add=True)
            if grad_weight_wd is not None:
                product_into(grad_weight_wd, operand_cw.t(), hidden_nd[chunk], add=True)
            if grad_bias_v is not None:
                grad_bias_w += grad_cw.sum(0)
        if grad_weight_vd is not None and grad_weight_wd is not None:
            grad_weight_vd[tile] = grad_weight_wd
        if grad_bias_v is not None:
            grad_bias_v[tile] = grad_bias_w
    return (
        None if grad_hidden_nd is None else grad_hidden_nd.to(head.half_dtype),
        grad_weight_vd,
        grad_bias_v,
    )
