"""The few figures of an iteration that `dvc metrics show` prints: a view of metrics.json and
decision.json, which have a hundred.

They are no outputs of a stage: git keeps them, as it keeps dvc.lock, so that `dvc metrics diff`
compares commits, and they are written anew whenever a stage that they are made from is run or
found up to date.
"""

import json
from contextlib import suppress

from distil_core.errors import DataError
from distil_core.evaluation.decision import read_decision
from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.files import write_text
from distil_core.workspace import Workspace

_NAMES = ("truncation_rate", "malformed_rate", "expert_gain")


def write_scores(workspace: Workspace, iteration: int) -> None:
    """Write the iteration's `scores/NNN.json` where its evaluation is here: smallest and largest
    pass@k, shares of responses that were cut or broke the format, what the expert gains over the
    policy, whether its gate promoted it and which policy is champion after it."""
    metrics_file = workspace.metrics_file(iteration)
    if not metrics_file.exists():
        return
    metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    ks = pass_at_ks(metrics)
    names = [f"pass_at_{k}" for k in sorted({*ks[:1], *ks[-1:]})]
    scores = {name: metrics[name] for name in (*names, *_NAMES) if name in metrics}
    # An interrupted gate has left none.
    with suppress(DataError):
        if iteration:
            decision = read_decision(workspace, iteration)
            scores |= {"promoted": int(decision.promoted), "champion": decision.champion}
    text = json.dumps(scores, indent=1) + "\n"
    file = workspace.scores_file(iteration)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)
