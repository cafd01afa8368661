"""The loss of every checkpoint on every feedback table: no regret (docs/method.md#fact-5).

`python -m benchmarks.loss_matrix` after `make run`, or in any workspace. The loss is KL(T || pi) in
nats per token, at the table's states: cross-entropy less the expert's own entropy, which no policy
can change. A table was sampled by the policy that the gate before it handed over; regret is the
mean loss of those policies on their tables, less that of the one checkpoint that would have been
best on all tables. The report has the same figures, from a part of each table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distil_core.campaign import load_iteration_params
from distil_core.errors import DataError, DistilError
from distil_core.evaluation.decision import read_decision
from distil_core.evaluation.hindsight import average_regrets, table_loss
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.training.feedback_rows import read_feedback
from distil_core.workspace import Workspace


def main() -> None:
    """Print the matrix and the regret."""
    workspace = Workspace(Path.cwd())
    try:
        losses_ji = loss_matrix(workspace)
        num_tables = losses_ji.shape[1]
        # Iteration 1 starts from the base, a later one from what the gate before it handed over.
        parents = [0, *(read_decision(workspace, i).handed_over for i in range(1, num_tables))]
        print(render(losses_ji, parents))
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
    digest = tokenizer_digest(load_tokenizer(workspace.policy_dir(0)))
    tables = [read_feedback(workspace.feedback_dir(i), digest) for i in range(1, num_tables + 1)]
    models = (load_model(workspace.policy_dir(j), compute) for j in range(num_tables + 1))
    return np.array([[table_loss(model, table) for table in tables] for model in models])


def render(losses_ji: NDArray[np.float64], parents: Sequence[int]) -> str:
    """A table to read, and the regret after each iteration."""
    numbers = range(1, losses_ji.shape[1] + 1)
    lines = ["KL(T || pi), nats per token; `*` sampled the table itself", ""]
    lines.append("checkpoint " + "".join(f"  table {i:<3d}" for i in numbers))
    for j, losses_i in enumerate(losses_ji):
        cells = (
            f"{loss:10.4f}{'*' if j == parent else ' '}"
            for loss, parent in zip(losses_i, parents, strict=True)
        )
        lines.append(f"{j:>10d} " + "".join(cells))
    regrets = average_regrets(losses_ji, parents)
    lines.append("    regret " + "".join(f"{regret:10.4f} " for regret in regrets))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
