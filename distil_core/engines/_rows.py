"""Which rows a decoder continues, where requests that are equal so far share one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FEW = 0.75
"""Share of the rows below which those that ended are taken out: until then they are computed for
nothing, but no other row has to be moved."""


@dataclass(frozen=True)
class NextRows:
    """source_r: the old row that each new row continues; a row keeps its place wherever possible.
    token_r: the token it continues with; 0 for rows that no request uses any more. row_a: each
    request's row."""

    source_r: NDArray[np.int64]
    token_r: NDArray[np.int64]
    row_a: NDArray[np.int64]


def next_rows(row_a: NDArray[np.int64], token_a: NDArray[np.int64], num_rows: int) -> NextRows:
    """The rows after the requests at `row_a` of `num_rows` rows drew `token_a`; all int64.

    There is one row for each distinct (row, token). The first of a row's tokens continues in its
    place; others take the places of rows that ended, or new ones.
    """
    num_tokens = int(token_a.max()) + 1
    pair_p, pair_a = np.unique(row_a * num_tokens + token_a, return_inverse=True)
    source_p, token_p = np.divmod(pair_p, num_tokens)
    num_live = len(pair_p)
    size = num_live if num_live <= _FEW * num_rows else max(num_rows, num_live)
    stays_p = np.append(True, source_p[1:] != source_p[:-1]) & (source_p < size)
    row_p = source_p.copy()
    free = np.setdiff1d(np.arange(size), source_p[stays_p], assume_unique=True)
    row_p[~stays_p] = free[: num_live - stays_p.sum()]
    source_r, token_r = np.arange(size), np.zeros(size, np.int64)
    source_r[row_p], token_r[row_p] = source_p, token_p
    return NextRows(source_r, token_r, row_p[pair_a])
