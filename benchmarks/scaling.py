"""Seconds and peak memory of each stage against 1, 4 and 16 times the work.

`python -m benchmarks.scaling` runs iteration 1 of the campaign with more rollouts a prompt, more
prompts, longer responses (an untrained policy writes those, as the trained one ends by itself), and
reads a history of 1, 4 and 16 feedback tables; each in a process of its own. Needs the problems and
the base policy of `make run`. A stage is linear where its seconds grow no faster than the work.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import Run, machine, markdown_table, minimum_of, own_peak_mb, run_in_turn
from benchmarks.peer_iteration.work import make_workspace
from distil_core.workspace import Workspace

FACTORS = (1, 4, 16)
STAGES = ("sample", "consult", "tabulate", "train")
AXES: dict[str, Any] = {
    "rollouts": lambda factor: {"num_rollouts": 2 * factor, "num_prompts": 64},
    "prompts": lambda factor: {"num_rollouts": 4, "num_prompts": 64 * factor},
    "response length": lambda factor: {
        "num_rollouts": 4,
        "num_prompts": 64,
        "max_new_tokens": 6 * factor,
    },
    "history": lambda factor: {"num_rollouts": 4, "num_prompts": 256},
}


def main() -> None:
    """Print a table: a row for each axis and stage."""
    arguments = _parse_arguments()
    if arguments.child:
        _child(arguments.child[0], int(arguments.child[1]))
        return
    commands = {
        f"{axis} {factor}": [
            sys.executable,
            "-m",
            "benchmarks.scaling",
            "--child",
            axis,
            str(factor),
        ]
        for axis in AXES
        for factor in FACTORS
    }
    runs = run_in_turn(commands, arguments.repeats)
    print(f"{machine()}; least of {arguments.repeats} runs in turn, a process each.\n")
    print(scaling_table(runs))


def scaling_table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Seconds at each factor, how many times the seconds 16 times the work takes, and memory."""
    rows = []
    for axis in AXES:
        found = [runs[f"{axis} {factor}"] for factor in FACTORS]
        peaks = [f"{minimum_of(one, lambda run: run.peak_mb):.0f}" for one in found]
        for stage in found[0][0].figures:
            seconds = [minimum_of(one, lambda run, key=stage: run.figures[key]) for one in found]  # type: ignore[misc]
            growth = f"{seconds[-1] / seconds[0]:.1f}"
            rows.append([f"{axis}, {stage}", *(f"{one:.2f}" for one in seconds), growth, *peaks])
    header = ["", *(f"{factor}x s" for factor in FACTORS), "16x to 1x"]
    return markdown_table([*header, *(f"{factor}x peak MB" for factor in FACTORS)], rows)


def _child(axis: str, factor: int) -> None:
    # Imported before anything is timed, the parts that transformers imports late too.
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    from distil_tasks import consult, sample, tabulate, train
    from distil_tasks.stage import run_body

    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Workspace(Path.cwd()), Path(folder) / "workspace")
        _change_settings(workspace, axis, factor)
        seconds = {}
        for stage in (sample, consult, tabulate, train):
            started = time.perf_counter()
            run_body(stage.STAGE, workspace, 1)
            seconds[stage.STAGE.name] = time.perf_counter() - started
        if axis == "history":
            seconds = {"reading": _read_history(workspace, factor)}
    print(json.dumps({**seconds, "peak_mb": own_peak_mb()}))


def _change_settings(workspace: Workspace, axis: str, factor: int) -> None:
    file = workspace.frozen_params_file(1)
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    values["sample"] |= AXES[axis](factor)
    rollouts = values["sample"]["num_rollouts"] * values["sample"]["num_prompts"]
    # One pass over the rollouts in batches of one size, so that training is as much work as there
    # is to train on.
    values["train"] |= {"batch_rollouts": 64, "num_steps": max(1, rollouts // 64)}
    if axis == "response length":
        values["context"]["max_context_tokens"] = 1024
        values["base"]["architecture"]["max_positions"] = 2048
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    if axis == "response length":
        _untrain(workspace, values["base"]["architecture"])


def _untrain(workspace: Workspace, architecture: Mapping[str, Any]) -> None:
    from distil_core.config.models import ArchitectureParams
    from distil_core.policy.model import save_policy
    from distil_core.policy.new_model import new_model
    from distil_core.policy.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(workspace.policy_dir(0))
    model = new_model(ArchitectureParams(**architecture), tokenizer, seed=1)
    save_policy(model, tokenizer, workspace.policy_dir(0))


def _read_history(workspace: Workspace, num_tables: int) -> float:
    from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
    from distil_core.training.feedback_rows import read_feedback_tables

    digest = tokenizer_digest(load_tokenizer(workspace.policy_dir(0)))
    folders = [workspace.feedback_dir(1)] * num_tables
    started = time.perf_counter()
    rows = read_feedback_tables(folders, digest, workspace.scratch_dir)
    for index in range(len(rows)):
        rows.row(index)
    return time.perf_counter() - started


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
