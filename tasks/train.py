"""Stage `train`: the next policy, from the parent policy and the feedback table."""

import csv
from typing import cast

from distil_core.config.models import IterationParams
from distil_core.files import atomic_path
from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import Objective
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.training.feedback_rows import read_feedback
from distil_core.training.trainer import train
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write policy/ and train_curve.csv."""
    iteration = params.iteration
    parent_dir = workspace.policy_dir(iteration - 1)
    tokenizer = load_tokenizer(parent_dir)
    rows = read_feedback(workspace.feedback_dir(iteration), tokenizer_digest(tokenizer))
    model = load_model(parent_dir, params.compute)
    component = params.train.objective
    objective = cast(Objective, OBJECTIVES.build(component.name, component.options))
    seed = derive_seed(params.seed, iteration, "train")
    curve = train(model, rows, objective, params.train, seed, progress)
    with (
        atomic_path(workspace.train_curve_file(iteration)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(curve[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(curve)
    save_policy(model, tokenizer, workspace.policy_dir(iteration))


STAGE = StageSpec("train", per_iteration=True, version=1, body=body)

if __name__ == "__main__":
    main(STAGE)
