"""Write the viewer of an iteration's samples."""

from pathlib import Path

from distil_core.campaign.iterations import existing_iterations
from distil_core.campaign.load import load_iteration_params
from distil_core.errors import ConfigError
from distil_core.files import write_text
from distil_core.report.samples.gather import gather_samples
from distil_core.report.samples.page import render_samples
from distil_core.workspace import Workspace

MAX_ROWS = 5000


def write_samples(
    workspace: Workspace,
    iteration: int | None = None,
    output: Path | None = None,
    max_rows: int = MAX_ROWS,
) -> tuple[Path, dict[str, int]]:
    """Write the page of an iteration's samples, by default of the last one that has some; returns
    where, and how many samples of each table it shows.

    Raises `ConfigError` for an iteration that does not exist, `DataError` for one without tables,
    and `CheckpointError` where the policy is not here whose tokenizer reads the tokens.
    """
    number = _last(workspace) if iteration is None else _existing(workspace, iteration)
    campaign = load_iteration_params(workspace, number, with_components=False).campaign
    samples = gather_samples(workspace, number, max_rows)
    path = output or workspace.samples_file
    write_text(path, render_samples(campaign, samples))
    return path, {name: len(rows) for name, rows in samples["sets"].items()}


def _existing(workspace: Workspace, iteration: int) -> int:
    existing = existing_iterations(workspace)
    if iteration not in existing:
        raise ConfigError(
            f"iteration {iteration} does not exist: the campaign has "
            f"{f'0 to {existing[-1]}' if existing else 'none yet'}"
        )
    return iteration


def _last(workspace: Workspace) -> int:
    """The last iteration that has sampled something, or else been evaluated."""
    for number in reversed(existing_iterations(workspace)):
        if workspace.rollouts_file(number).exists() or workspace.evaluation_file(number).exists():
            return number
    raise ConfigError(
        "there are no samples to look at yet: no iteration has sampled. `distil run` runs the "
        "campaign"
    )
