"""Stage `train`: the next policy, from the parent policy and feedback tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.campaign.chain import first_table
from distil_core.campaign.load import load_iteration_params
from distil_core.campaign.sampler import training_temperature
from distil_core.campaign.stage_code import all_digests
from distil_core.config.models import ComputeParams, IterationParams
from distil_core.files import atomic_path, write_text
from distil_core.objectives import OBJECTIVES
from distil_core.policy.card_opening import CARD_FILE
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model, write_policy
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.training.curve import with_table_facts, write_curve
from distil_core.training.feedback_rows import read_feedback_tables
from distil_core.training.model_card import model_card
from distil_core.training.optimizer import optimizer_library
from distil_core.training.resume import ResumePoint, fingerprint, folder_digest
from distil_core.training.state import TrainingSetup
from distil_core.training.table_list import known_tables, table_digest, write_table_list
from distil_core.training.trainer import train
from distil_core.training.weight_average import WeightAverage
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec, main

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write policy/ with its model card, and train_curve.csv."""
    iteration = params.iteration
    parent_dir = workspace.parent_dir(iteration)
    tokenizer = load_tokenizer(parent_dir)
    first = first_table(iteration, params.train.num_tables)
    folders = [workspace.feedback_dir(i) for i in range(first, iteration + 1)]
    learned_from = {workspace.relative(folder): table_digest(folder) for folder in folders}
    # Where only its own table is read, the next policy needs no list.
    tables = (
        known_tables(learned_from, workspace.relative(folders[-1]), parent_dir)
        if params.train.num_tables != 1
        else {}
    )
    rows = read_feedback_tables(folders, tokenizer_digest(tokenizer), workspace.scratch_dir)
    # Weights stay in float32: most updates are too small to change a bfloat16 weight at all.
    compute = params.compute.model_copy(update={"dtype": "float32"})
    model = load_model(parent_dir, compute)
    average_dir = workspace.parent_average_dir(iteration)
    average = _average(average_dir, params.train.average_decay, model, compute)
    component = params.train.objective
    objective = OBJECTIVES.build(component.name, component.options)
    seed = derive_seed(params.seed, iteration, "train")
    temperature = training_temperature(
        params,
        range(first, iteration),
        lambda number: load_iteration_params(workspace, number, with_components=False),
    )
    resume = ResumePoint(
        workspace.resume_file("train", iteration),
        fingerprint(
            stage_version=STAGE.version,
            code=all_digests(STAGE.stage, params),
            train=params.train.model_dump(mode="json"),
            compute=params.compute.model_dump(mode="json"),
            seed=seed,
            parent=folder_digest(parent_dir),
            tables=learned_from,
            optimizer=optimizer_library(params.train.optimizer_state_bits),
            **({} if temperature is None else {"temperature": temperature}),
        ),
        params.resume.checkpoint_every_s,
    )
    setup = TrainingSetup(
        params.train, seed, params.compute.dtype, end_token_ids(tokenizer), temperature
    )
    curve = train(model, rows, objective, setup, progress, average, resume)
    write_curve(workspace.train_curve_file(iteration), with_table_facts(curve, rows))
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


def _average(
    average_dir: Path, decay: float | None, model: PreTrainedModel, compute: ComputeParams
) -> WeightAverage | None:
    """The moving average to continue; a new one starts at the parent policy where there is none."""
    if decay is None:
        return None
    start = load_model(average_dir, compute) if average_dir.is_dir() else model
    return WeightAverage(start, decay)


STAGE = StageSpec("train", version=4, body=body)

if __name__ == "__main__":
    main(STAGE)
