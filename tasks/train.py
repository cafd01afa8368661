"""Stage `train`: the next policy, from the parent policy and feedback tables."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from distil_core.campaign.chain import first_table
from distil_core.config.models import ComputeParams, IterationParams
from distil_core.files import atomic_path, write_text
from distil_core.objectives import OBJECTIVES
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model, write_policy
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.training.feedback_rows import read_feedback_tables
from distil_core.training.model_card import CARD_FILE, model_card
from distil_core.training.resume import ResumePoint, fingerprint, folder_digest
from distil_core.training.table_list import (
    read_table_list,
    require_as_listed,
    table_digest,
    write_table_list,
)
from distil_core.training.trainer import train
from distil_core.training.weight_average import WeightAverage
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write policy/ with its model card, and train_curve.csv."""
    iteration = params.iteration
    parent_dir = workspace.parent_dir(iteration)
    tokenizer = load_tokenizer(parent_dir)
    tables = _tables(workspace, params)
    folders = [workspace.feedback_dir(i) for i in range(first_table(params), iteration + 1)]
    rows = read_feedback_tables(folders, tokenizer_digest(tokenizer), workspace.scratch_dir)
    # Weights stay in float32: most updates are too small to change a bfloat16 weight at all.
    compute = params.compute.model_copy(update={"dtype": "float32"})
    model = load_model(parent_dir, compute)
    average = _average(workspace, params, model, compute)
    component = params.train.objective
    objective = OBJECTIVES.build(component.name, component.options)
    seed = derive_seed(params.seed, iteration, "train")
    learned_from = {workspace.relative(folder): table_digest(folder) for folder in folders}
    resume = ResumePoint(
        workspace.resume_file("train", iteration),
        fingerprint(
            stage_version=STAGE.version,
            train=params.train.model_dump(mode="json"),
            compute=params.compute.model_dump(mode="json"),
            seed=seed,
            parent=folder_digest(parent_dir),
            tables=learned_from,
        ),
        params.resume.checkpoint_every_s,
    )
    curve = train(
        model,
        rows,
        objective,
        params.train,
        seed,
        progress,
        params.compute.dtype,
        average,
        end_token_ids(tokenizer),
        resume,
    )
    if "num_shortened" in rows.context:
        shortened = rows.context["num_shortened"]["contexts"]
        curve = [{**row, "shortened_contexts": shortened} for row in curve]
    if rows.num_without_verdict:
        curve = [{**row, "without_verdict": rows.num_without_verdict} for row in curve]
    # Of the sampler whose log-probabilities the importance weights are made from.
    drift = rows.context.get("engine_drift", {})
    curve = [{**row, **drift} for row in curve]
    with (
        atomic_path(workspace.train_curve_file(iteration)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(curve[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(curve)
    policy_dir = workspace.policy_dir(iteration)
    average_name = workspace.average_dir(iteration).relative_to(policy_dir)
    with atomic_path(policy_dir) as temporary:
        write_policy(model, tokenizer, temporary)
        if average is not None:
            write_policy(average.model, tokenizer, temporary / average_name)
        if tables:
            write_table_list(temporary, tables)
        card = model_card(iteration, params.seed, params.train, rows.context, learned_from)
        write_text(temporary / CARD_FILE, card)
    resume.remove()


def _tables(workspace: Workspace, params: IterationParams) -> dict[str, str]:
    """Digest by path of all tables that this policy and those before it learned from; empty where
    only its own is read. `DataError` where an older one is not what the parent policy knows."""
    if params.train.num_tables == 1:
        return {}
    parent_dir = workspace.parent_dir(params.iteration)
    listed = read_table_list(parent_dir)
    found = {}
    for iteration in range(first_table(params), params.iteration + 1):
        folder = workspace.feedback_dir(iteration)
        name = workspace.relative(folder)
        found[name] = table_digest(folder)
        if iteration < params.iteration:
            require_as_listed(name, found[name], listed, parent_dir)
    return listed | found


def _average(
    workspace: Workspace, params: IterationParams, model: PreTrainedModel, compute: ComputeParams
) -> WeightAverage | None:
    """The moving average to go on with; one begins at the parent policy where it has none."""
    decay = params.train.average_decay
    if decay is None:
        return None
    average_dir = workspace.parent_average_dir(params.iteration)
    start = load_model(average_dir, compute) if average_dir.is_dir() else model
    return WeightAverage(start, decay)


STAGE = StageSpec("train", version=4, body=body)

if __name__ == "__main__":
    main(STAGE)
