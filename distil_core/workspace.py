"""Where everything lies: the one place that knows the file layout of a campaign's workspace.

A workspace is the root of a git repository with `dvc.yaml`, `params.yaml` and `iterations.yaml`.
Artifacts live below `data/` (DVC), with each table's checks beside it; frozen settings below
`iterations/` (git), and whatever is neither an artifact nor source (timings, resume checkpoints)
below `.distil/` (ignored).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from distil_core.errors import ConfigError

CHAMPION_FOLDER = "champion"
"""In the folder of a policy that is handed over and is not the champion."""

SCORES_FOLDER = "scores"
"""What dvc.yaml names as metrics: one small file an iteration."""


def iteration_key(iteration: int) -> str:
    """The iteration's name in files and stage addresses: three digits, '003'."""
    if not 0 <= iteration <= 999:
        raise ConfigError(f"iteration must lie in 0 .. 999, found {iteration}")
    return f"{iteration:03d}"


@dataclass(frozen=True)
class Workspace:
    """Paths of one campaign. Iteration 0 is the base policy; it has an evaluation, no rollouts.

    A root given from the current folder stays where it was when that changes."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.absolute())

    def make_code_importable(self) -> None:
        """Have Python look for modules in the root first, as `python -m` does when it is started
        there: so a component that lies in the workspace (my_lab/focal_objective.py) is the same
        one for each front door, `distil` included."""
        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))

    @property
    def params_file(self) -> Path:
        return self.root / "params.yaml"

    @property
    def iterations_file(self) -> Path:
        return self.root / "iterations.yaml"

    def frozen_params_file(self, iteration: int) -> Path:
        return self.root / "iterations" / f"{iteration_key(iteration)}.yaml"

    @property
    def problems_dir(self) -> Path:
        return self.root / "data" / "problems"

    def iteration_dir(self, iteration: int) -> Path:
        return self.root / "data" / "iterations" / iteration_key(iteration)

    def policy_dir(self, iteration: int) -> Path:
        if iteration == 0:
            return self.root / "data" / "policy-000"
        return self.iteration_dir(iteration) / "policy"

    def average_dir(self, iteration: int) -> Path:
        """The moving average of the weights up to this policy, a checkpoint kept inside the
        policy's folder so that DVC versions the two together. It starts as the base policy."""
        policy_dir = self.policy_dir(iteration)
        return policy_dir if iteration == 0 else policy_dir / "average"

    def handover_dir(self, iteration: int) -> Path:
        """The policy that the iteration's gate hands to the next iteration."""
        return self.iteration_dir(iteration) / "handover"

    def parent_dir(self, iteration: int) -> Path:
        """The policy that samples, and is trained further, in this iteration (from 1 on)."""
        return self.policy_dir(0) if iteration == 1 else self.handover_dir(iteration - 1)

    def parent_average_dir(self, iteration: int) -> Path:
        """The moving average of the weights that came with that policy; the base, also where a gate
        kept it, is its own."""
        parent_dir = self.parent_dir(iteration)
        average_dir = parent_dir / "average"
        return average_dir if average_dir.is_dir() else parent_dir

    def parent_champion_dir(self, iteration: int) -> Path:
        """The champion before the iteration: kept in the folder of the policy that was handed
        over, where that is another one."""
        parent_dir = self.parent_dir(iteration)
        champion_dir = parent_dir / CHAMPION_FOLDER
        return champion_dir if champion_dir.is_dir() else parent_dir

    def rollouts_file(self, iteration: int) -> Path:
        return self.iteration_dir(iteration) / "rollouts.parquet"

    def consultations_file(self, iteration: int) -> Path:
        return self.iteration_dir(iteration) / "consultations.parquet"

    def feedback_dir(self, iteration: int) -> Path:
        return self.iteration_dir(iteration) / "feedback"

    def train_curve_file(self, iteration: int) -> Path:
        return self.iteration_dir(iteration) / "train_curve.csv"

    def metrics_file(self, iteration: int) -> Path:
        return self.iteration_dir(iteration) / "metrics.json"

    def scores_file(self, iteration: int) -> Path:
        """The few figures of it that `dvc metrics show` prints; git keeps them."""
        return self.root / SCORES_FOLDER / f"{iteration_key(iteration)}.json"

    def pass_at_k_file(self, iteration: int) -> Path:
        return self.iteration_dir(iteration) / "pass_at_k.csv"

    def evaluation_file(self, iteration: int) -> Path:
        return self.iteration_dir(iteration) / "evaluation.parquet"

    def decision_file(self, iteration: int) -> Path:
        return self.iteration_dir(iteration) / "decision.json"

    def champion_evaluation_file(self, iteration: int) -> Path:
        """The evaluation of the champion after the iteration's gate."""
        return self._reference_file(iteration, "champion")

    def handover_evaluation_file(self, iteration: int) -> Path:
        """The evaluation of the policy that the iteration's gate hands over."""
        return self._reference_file(iteration, "handover")

    def _reference_file(self, iteration: int, role: str) -> Path:
        if iteration == 0:
            return self.evaluation_file(0)
        return self.iteration_dir(iteration) / f"{role}_evaluation.parquet"

    def checks_file(self, table: Path) -> Path:
        """What a table's checks found, beside the table. It is measured again wherever it lacks."""
        return table.with_name(f"{table.stem}.checks.json")

    @property
    def scratch_dir(self) -> Path:
        return self.root / ".distil"

    @property
    def expert_record_dir(self) -> Path:
        """Answers of paid endpoints, outside the outputs that DVC deletes before a stage runs."""
        return self.scratch_dir / "expert-responses"

    def verification_journal(self, stage: str, iteration: int) -> Path:
        """Verdicts of a stage that was interrupted, until it has written its output."""
        name = f"{stage}-{iteration_key(iteration)}.sqlite"
        return self.scratch_dir / "verification" / name

    def resume_file(self, stage: str, iteration: int) -> Path:
        """State of a stage that trains, until it has written its outputs."""
        return self.scratch_dir / "resume" / f"{stage}-{iteration_key(iteration)}.safetensors"

    def timings_file(self, iteration: int) -> Path:
        """Seconds each stage took when it last ran. No artifact: it differs from run to run."""
        return self.scratch_dir / "timings" / f"{iteration_key(iteration)}.json"

    def finish_times_file(self, iteration: int) -> Path:
        """When each stage last finished here, in seconds since the epoch. No artifact either."""
        return self.scratch_dir / "timings" / f"{iteration_key(iteration)}-finished.json"

    @property
    def report_file(self) -> Path:
        """The campaign's report. A view of the artifacts, made anew at any time."""
        return self.root / "report.html"

    @property
    def samples_file(self) -> Path:
        """The viewer of samples, a view of the tables too."""
        return self.root / "samples.html"

    @property
    def mlflow_database(self) -> Path:
        return self.root / "mlflow.db"

    def relative(self, path: Path) -> str:
        """`path` as dvc.yaml and dvc.lock write it."""
        return path.relative_to(self.root).as_posix()


def find_workspace(folder: Path) -> Workspace:
    """The workspace that `folder` is, or lies in, as git and dvc find theirs; where there is none,
    one of that folder, whose commands then say what is missing."""
    for candidate in (folder, *folder.parents):
        if (candidate / "dvc.yaml").is_file() and (candidate / "params.yaml").is_file():
            return Workspace(candidate)
    return Workspace(folder)
