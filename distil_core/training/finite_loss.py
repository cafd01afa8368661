"""Stop before a non-finite loss reaches the weights, and name the rows it came from."""

from collections.abc import Sequence

import torch

from distil_core.errors import TrainingError
from distil_core.objectives.base import ObjectiveOutput


def rows_with_nonfinite_loss(output: ObjectiveOutput) -> list[int]:
    """Indices on the batch axis of the rows that hold a NaN or infinite token loss, ascending."""
    finite_b = torch.isfinite(output.per_token_loss_bt).all(dim=1)
    return [int(row) for row in (~finite_b).nonzero().flatten().tolist()]


def require_finite_loss(output: ObjectiveOutput, row_names: Sequence[str] | None = None) -> None:
    """To be called before `backward`. Raises `TrainingError`, naming the rows behind a non-finite
    loss.

    row_names: one name for each row of the batch (a rollout id), for the message. Where no row is
    bad, the sum itself overflowed, and the message says so.
    """
    if bool(torch.isfinite(output.loss)):
        return
    rows = rows_with_nonfinite_loss(output)
    named = [row_names[row] for row in rows] if row_names else [str(row) for row in rows]
    source = (
        f"rows {', '.join(named)} of the batch" if rows else "no single row: the sum overflowed"
    )
    raise TrainingError(
        f"non-finite loss ({output.loss.item()}) from {source}. The weights were not changed. "
        "Look at the log-probabilities of these rows, or lower the learning rate."
    )
