"""`distil run --limit N`: the whole campaign in miniature, in a scratch folder of its own.

The stages' own bodies run one after another in this process, without Prefect, DVC and MLflow, so
that nothing of the campaign's record changes.
"""

import shutil
import time
from pathlib import Path

from rich.console import Console

from distil_core.campaign.load import load_params, parse_iteration_params
from distil_core.campaign.miniature import in_miniature
from distil_core.config.models import SCHEMA_VERSION, Params
from distil_core.errors import GateError
from distil_core.experts import EXPERTS
from distil_core.files import private_folder
from distil_core.pipeline import stages_of
from distil_core.workspace import Workspace
from distil_flows.display import Display
from distil_flows.report import campaign_table
from distil_flows.stages import stage_spec, stage_versions
from distil_tasks.stage import work


def run_in_miniature(workspace: Workspace, limit: int, console: Console) -> None:
    """Run params.yaml, scaled down, and show its table. What an earlier one left is replaced."""
    params = in_miniature(load_params(workspace), limit)
    private_folder(workspace.scratch_dir)
    scratch = Workspace(workspace.scratch_dir / "miniature")
    shutil.rmtree(scratch.root, ignore_errors=True)
    scratch.root.mkdir()
    _bring_checkpoint(workspace, scratch, params)
    console.print(
        f"Campaign {params.campaign} in miniature: {params.num_iterations} iterations of "
        f"{params.sample.num_prompts} prompts, {params.train.num_steps} training steps each",
        highlight=False,
    )
    iterations = list(range(params.num_iterations + 1))
    display = Display(console)
    with display.campaign(sum(len(stages_of(number)) for number in iterations)):
        try:
            for number in iterations:
                _run_iteration(scratch, params, number, display)
        except GateError as error:
            display.line(f"ended by its gate: {error}")
    console.print()
    console.print(campaign_table(scratch, iterations, console.width))
    console.print(
        "So few problems and steps show that everything works, not how well it learns. Everything "
        f"it made is in {workspace.relative(scratch.root)}; nothing of the campaign was touched. "
        "`distil run` runs the campaign itself.",
        highlight=False,
    )


def _run_iteration(scratch: Workspace, params: Params, number: int, display: Display) -> None:
    frozen = parse_iteration_params(
        params.model_dump(mode="json")
        | {
            "iteration": number,
            "stage_versions": stage_versions(),
            "schema_version": SCHEMA_VERSION,
        },
        f"iteration {number} in miniature",
    )
    scratch.iteration_dir(number).mkdir(parents=True, exist_ok=True)
    for stage in stages_of(number):
        address, started = stage.address(number), time.monotonic()
        with display.stage(address) as progress:
            work(stage_spec(stage.name), scratch, frozen, progress)
        display.stage_done(address, "ran", time.monotonic() - started)


def _bring_checkpoint(workspace: Workspace, scratch: Workspace, params: Params) -> None:
    """An expert's checkpoint that is named from the workspace's root lies there in both."""
    expert = params.tabulate.expert
    named = EXPERTS.options(expert.name, expert.options).checkpoint_path
    if named is None or Path(named).is_absolute():
        return
    link = scratch.root / named
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(workspace.root / named)
