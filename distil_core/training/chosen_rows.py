"""Choose the rows of the tables that a step trains on."""

from collections.abc import Collection, Iterator

import numpy as np

from distil_core.config.models import TrainParams
from distil_core.errors import TrainingError
from distil_core.seeds import generator
from distil_core.training.feedback_rows import FeedbackRows


def masked_rows(
    rows: FeedbackRows, params: TrainParams, end_token_ids: Collection[int]
) -> set[int]:
    """Indices of the rows that `truncated_responses` excludes from training. Raises `TrainingError`
    where no row would be left."""
    if params.truncated_responses == "train":
        return set()
    if not end_token_ids:
        raise TrainingError(
            "train.truncated_responses mask needs the policy's end tokens, found none"
        )
    masked = {index for index in range(len(rows)) if rows.row(index).is_truncated(end_token_ids)}
    if len(masked) == len(rows):
        raise TrainingError(
            f"all {len(rows)} responses are truncated, and train.truncated_responses is mask, so "
            "none is left to train on: raise sample.max_new_tokens, or train on truncated ones"
        )
    return masked


def group_batches(
    groups: list[list[int]],
    batch_rollouts: int,
    num_steps: int,
    seed: int,
    num_without_verdict: int = 0,
) -> Iterator[list[list[int]]]:
    """`num_steps` batches of whole groups of rollouts, each with about `batch_rollouts` rows.

    Each epoch is a permutation of all groups; groups left over that are too few for a batch are
    used in the next epoch's permutation.

    num_without_verdict: rollouts that were sampled but are not in the table. An epoch has as many
    batches as if they were; where there are too few groups for that, batches are smaller. Raises
    `TrainingError` where the table has less than half a batch.
    """
    num_rows = sum(map(len, groups))
    if 2 * num_rows < batch_rollouts:
        lost = f" ({num_without_verdict} more have no verdict)" if num_without_verdict else ""
        raise TrainingError(
            f"train.batch_rollouts is {batch_rollouts}, but the feedback table has only "
            f"{num_rows} rollouts{lost}: lower it, or sample more"
        )
    groups_per_batch = max(1, round(batch_rollouts * len(groups) / num_rows))
    num_sampled_groups = round(len(groups) * (num_rows + num_without_verdict) / num_rows)
    batches_per_epoch = min(max(1, num_sampled_groups // groups_per_batch), len(groups))
    for step in range(num_steps):
        epoch, batch = divmod(step, batches_per_epoch)
        order = generator(seed, "order", epoch).permutation(len(groups))
        whole = order[: batches_per_epoch * groups_per_batch]
        chosen = np.array_split(whole, batches_per_epoch)[batch]
        yield [groups[index] for index in chosen]
