"""What a stage is, and its two ways to run: through DVC (`run`), or as DVC's command (`main`).

Each module of this package defines `STAGE = StageSpec(..)` and ends in `main(STAGE)`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from distil_core.campaign.better_expert import expert_alarm, require_better_expert
from distil_core.campaign.load import load_iteration_params
from distil_core.campaign.stage_code import adopt_code, other_code, require_frozen_code
from distil_core.checks.kept import measured_now, written_by
from distil_core.checks.limits import findings_of_stage, require_within_limits
from distil_core.config.models import ComputeParams, IterationParams
from distil_core.errors import ConfigError, DistilError
from distil_core.evaluation.scores import write_scores
from distil_core.files import private_folder, until_nobody_reads, write_text
from distil_core.lineage.dvc.code import prepare_code
from distil_core.lineage.dvc.lock import is_recorded
from distil_core.lineage.dvc.stage import StageOutcome, run_stage
from distil_core.lineage.mlflow.live import LiveFigures, live_figures
from distil_core.lineage.usable import require_usable_folder
from distil_core.pipeline import DECISION, METRICS, Stage, stage_named
from distil_core.progress import ProgressCallback, no_progress, report_figures, shown_figures
from distil_core.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    from rich.progress import Progress

StageBody = Callable[[Workspace, IterationParams, ProgressCallback], None]


@dataclass(frozen=True)
class StageSpec:
    """A stage's work: one function from the workspace's files and frozen settings to its outputs.

    name: of the stage in the pipeline, which says all else of it. version: raised when the code
    changes what the stage writes; frozen into new iterations, so that these alone are made anew.
    """

    name: str
    version: int
    body: StageBody

    @property
    def stage(self) -> Stage:
        """What the pipeline says of it."""
        return stage_named(self.name)

    def address(self, iteration: int) -> str:
        """The stage as DVC addresses it, for example `sample@003`."""
        return self.stage.address(iteration)


def run(
    spec: StageSpec,
    workspace: Workspace,
    iteration: int,
    progress: ProgressCallback = no_progress,
    force: bool = False,
) -> StageOutcome:
    """Bring the stage up to date in this process and record it as `dvc repro` would.

    `iteration` is ignored by stages made once. Raises the body's own errors, and `LineageError`
    as `run_stage` does.
    """

    _prepare(spec, workspace, iteration)

    def body() -> None:
        run_body(spec, workspace, iteration, progress)

    outcome = run_stage(workspace, spec.address(iteration), body, force)
    _keep_scores(spec, workspace, iteration)
    return outcome


def run_body(
    spec: StageSpec, workspace: Workspace, iteration: int, progress: ProgressCallback = no_progress
) -> None:
    """Do the stage's work, unrecorded, and note the seconds it took and when it finished.

    Raises `CheckError` where a table that it would go on from is beyond a limit that stops, and
    `GateError` where the iteration's expert has to be better than the student and is not.
    """
    iteration = iteration if spec.stage.per_iteration else 0
    params = load_iteration_params(workspace, iteration, with_components=spec.stage.uses_torch)
    require_frozen_code(workspace, spec.stage, params, spec.version)
    require_within_limits(workspace, spec.stage, params)
    require_better_expert(workspace, spec.stage, params, prepare_torch, progress)
    with live_figures(workspace, params.campaign, spec.address(iteration)) as live:
        work(spec, workspace, params, _Watched(progress, live))
    for table in written_by(spec.stage):
        measured_now(workspace, table, iteration)


def work(
    spec: StageSpec, workspace: Workspace, params: IterationParams, progress: ProgressCallback
) -> None:
    """The stage's work alone, with settings that are at hand, frozen or not, and the same notes."""
    # Private, as stages keep text of models and experts there until their outputs are written.
    private_folder(workspace.scratch_dir)
    if spec.stage.uses_torch:
        prepare_torch(params.compute)
    started = time.monotonic()
    spec.body(workspace, params, progress)
    iteration = params.iteration
    _note(workspace.timings_file(iteration), spec.name, time.monotonic() - started)
    _note(workspace.finish_times_file(iteration), spec.name, time.time())


class _Watched:
    """A front door's callback, whose figures are live in MLflow too."""

    def __init__(self, progress: ProgressCallback, live: LiveFigures):
        self._progress, self._live = progress, live

    def __call__(self, done: int, total: int) -> None:
        self._progress(done, total)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        report_figures(self._progress, step, values)
        self._live.figures(step, values)


def _keep_scores(spec: StageSpec, workspace: Workspace, iteration: int) -> None:
    if {METRICS, DECISION} & {*spec.stage.writes}:
        write_scores(workspace, iteration)


def _prepare(spec: StageSpec, workspace: Workspace, iteration: int) -> None:
    """Before anything is looked at: DVC is to see the code as it is, and a stage that never ran is
    made with the code of now."""
    prepare_code(workspace)
    number = iteration if spec.stage.per_iteration else 0
    if not is_recorded(workspace, spec.address(iteration)):
        adopt_code(workspace, spec.stage, number, spec.version)


def prepare_torch(compute: ComputeParams) -> None:
    """Threads and algorithms such that the same inputs give the same bytes on one machine.

    Raises `ConfigError` where there is no compute.device: before the first stage, which makes its
    policy on the CPU and would take minutes to get to one that fails.
    """
    # cuBLAS reads this when the device is first used; deterministic mode requires it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from distil_core.policy.device import require_device

    require_device(compute)
    torch.set_num_threads(compute.num_threads)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory with NaN finds reads of unwritten memory, and takes time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@until_nobody_reads()
def main(spec: StageSpec) -> NoReturn:
    """The command line of `python -m distil_tasks.<stage>`; exits 0, or 1 after one line that says
    why.

    Started by `dvc repro` it does the work only, since DVC records it; otherwise it records.
    """
    arguments = _parse_arguments(spec)
    workspace = find_workspace(Path.cwd())
    os.chdir(workspace.root)
    try:
        require_usable_folder(workspace)
        with progress_bar(spec.address(arguments.iteration)) as progress:
            if _started_by_dvc(spec.address(arguments.iteration)):
                _prepare(spec, workspace, arguments.iteration)
                run_body(spec, workspace, arguments.iteration, progress)
                _keep_scores(spec, workspace, arguments.iteration)
                _say_findings(spec, workspace, arguments.iteration)
                sys.exit(0)
            outcome = run(spec, workspace, arguments.iteration, progress, arguments.force)
    except DistilError as error:
        print(f"{spec.name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{spec.name}: interrupted; nothing was recorded", file=sys.stderr)
        sys.exit(130)
    outputs = ", ".join(f"{path} {md5[:8]}" for path, md5 in outcome.outputs.items())
    print(f"{outcome.address}: {outcome.status} in {outcome.seconds:.1f} s: {outputs}")
    if outcome.status != "unchanged":
        _say_findings(spec, workspace, arguments.iteration)
    if outcome.status != "ran":
        number = arguments.iteration if spec.stage.per_iteration else 0
        for line in other_code(workspace, [number], {spec.name: spec.version}):
            print(line)
    sys.exit(0)


def _say_findings(spec: StageSpec, workspace: Workspace, iteration: int) -> None:
    """What the checks of the stage's tables found beyond limits."""
    if not written_by(spec.stage):
        return
    params = load_iteration_params(workspace, iteration, with_components=False)
    for finding in findings_of_stage(workspace, spec.stage, params):
        if finding.level != "ok":
            print(f"{spec.name}: {finding.line()}", file=sys.stderr)
    if alarm := expert_alarm(workspace, spec.stage, params):
        print(f"{spec.name}: {alarm}", file=sys.stderr)


def _parse_arguments(spec: StageSpec) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m distil_tasks.{spec.name}",
        description="Bring the stage up to date and record it in dvc.lock, as `dvc repro` does.",
    )
    if spec.stage.per_iteration:
        parser.add_argument("--iteration", type=int, required=True, metavar="N")
    else:
        parser.set_defaults(iteration=0)
    parser.add_argument("--force", action="store_true", help="do the work even if nothing changed")
    arguments = parser.parse_args()
    try:
        spec.address(arguments.iteration)
    except ConfigError as error:
        parser.error(str(error))
    return arguments


def _started_by_dvc(address: str) -> bool:
    # Run from another folder, DVC prefixes the name with the path of dvc.yaml and a colon.
    return os.environ.get("DVC_STAGE", "").rpartition(":")[2] == address


@contextmanager
def progress_bar(description: str) -> Iterator[ProgressCallback]:
    """A bar on stderr where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, description)


class _Bar:
    """A bar with the stage's figures before it."""

    def __init__(self, bars: "Progress", description: str):
        self._bars, self._description = bars, description
        self._task = bars.add_task(description, total=None)

    def __call__(self, done: int, total: int) -> None:
        self._bars.update(self._task, completed=done, total=total)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        text = f"{self._description} {shown_figures(values)}"
        self._bars.update(self._task, description=text)


def _note(path: Path, stage: str, seconds: float) -> None:
    noted = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_text(path, json.dumps(noted | {stage: round(seconds, 3)}, indent=1) + "\n")
