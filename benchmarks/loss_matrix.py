"""The loss of every checkpoint on every feedback table: no regret (METHOD section 6) on a real run.

`python -m benchmarks.loss_matrix` after `make run`, or in any workspace. The loss is KL(T || pi) in
nats per token, at the table's states: cross-entropy less the expert's own
entropy, which no policy can change. Table i was sampled by checkpoint i - 1, so the loss that the
run has really met lies on the diagonal of (i - 1, i); regret is its mean less that of the one
checkpoint that would have been best on all tables.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distil_core.config import load_iteration_params
from distil_core.config.models import ComputeParams
from distil_core.errors import DataError, DistilError
from distil_core.objectives import OBJECTIVES
from distil_core.policy.batching import collate, response_logits
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.training.feedback_rows import FeedbackRows, read_feedback
from distil_core.training.objective_batch import make_objective_batch
from distil_core.workspace import Workspace

_ROWS_AT_ONCE = 256


def main() -> None:
    """Print the matrix and the regret."""
    workspace = Workspace(Path.cwd())
    try:
        print(render(loss_matrix(workspace)))
    except DistilError as error:
        sys.exit(f"{error}")


def loss_matrix(workspace: Workspace) -> NDArray[np.float64]:
    """[checkpoints 0 .. n, tables 1 .. n], for the iterations that have been trained."""
    num_tables = 0
    while workspace.policy_dir(num_tables + 1).is_dir():
        num_tables += 1
    if not num_tables:
        raise DataError(
            f"no trained iteration in {workspace.root}: run from the root of a workspace, after "
            "`make run` or `dvc checkout`"
        )
    compute = load_iteration_params(workspace, 1).compute.model_copy(update={"dtype": "float32"})
    torch.set_num_threads(compute.num_threads)
    digest = tokenizer_digest(load_tokenizer(workspace.policy_dir(0)))
    tables = [read_feedback(workspace.feedback_dir(i), digest) for i in range(1, num_tables + 1)]
    return np.array(
        [
            [mean_divergence(workspace.policy_dir(j), compute, rows) for rows in tables]
            for j in range(num_tables + 1)
        ]
    )


@torch.inference_mode()
def mean_divergence(policy_dir: Path, compute: ComputeParams, rows: FeedbackRows) -> float:
    """KL(T || pi) of the checkpoint, mean over the table's positions with an expert."""
    model = load_model(policy_dir, compute)
    objective = OBJECTIVES.build("forward_cross_entropy", {"weight": 0.0})
    total = count = 0.0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = [rows.row(i) for i in range(start, min(start + _ROWS_AT_ONCE, len(rows)))]
        tokens = collate(
            [row.context_ids.tolist() for row in part],
            [row.response_ids_t.tolist() for row in part],
            str(model.device),
        )
        batch = make_objective_batch(
            part,
            range(len(part)),
            response_logits(model, tokens),
            tokens.response_mask_bt,
            tokens.response_ids_bt,
        )
        readings = objective(batch).diagnostics
        positions = readings["positions_with_expert"]
        total += positions * (readings["cross_entropy"] - readings["expert_entropy"])
        count += positions
    return total / count


def average_regret(losses_ji: NDArray[np.float64]) -> float:
    """Of the run against its best single checkpoint in hindsight."""
    met_i = np.diagonal(losses_ji)
    return float(met_i.mean() - losses_ji.mean(axis=1).min())


def render(losses_ji: NDArray[np.float64]) -> str:
    """A table to read, and the regret after each iteration."""
    numbers = range(1, losses_ji.shape[1] + 1)
    lines = ["KL(T || pi), nats per token; `*` sampled the table itself", ""]
    lines.append("checkpoint " + "".join(f"  table {i:<3d}" for i in numbers))
    for j, losses_i in enumerate(losses_ji):
        cells = (
            f"{loss:10.4f}{'*' if i == j + 1 else ' '}"
            for i, loss in zip(numbers, losses_i, strict=True)
        )
        lines.append(f"{j:>10d} " + "".join(cells))
    regrets = (average_regret(losses_ji[: i + 1, :i]) for i in numbers)
    lines.append("    regret " + "".join(f"{regret:10.4f} " for regret in regrets))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
