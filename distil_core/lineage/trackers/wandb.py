"""Weights & Biases: online after `wandb login`, or a folder to send later (WANDB_MODE=offline)."""

from dataclasses import dataclass
from pathlib import Path

from distil_core.errors import ExportError
from distil_core.lineage.trackers.base import TrackedRun
from distil_core.workspace import Workspace


@dataclass(frozen=True)
class WandbTracker:
    """Mode, server and entity follow wandb's own settings. folder: for what it writes here."""

    folder: Path
    project: str

    def write(self, run: TrackedRun) -> None:
        """See the contract."""
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,
            console="off",
            # The figures are of a run that is over, perhaps on another machine and other code.
            x_disable_stats=True,
            x_disable_meta=True,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
        )
        try:
            with wandb.init(
                project=self.project,
                id=run.id,
                name=run.name,
                group=run.group,
                config=dict(run.settings),
                dir=self.folder,
                resume="allow",
                settings=settings,
            ) as opened:
                for step, figures in run.points:
                    opened.log(dict(figures), step=step)
        except Exception as error:  # wandb raises many unrelated types
            raise ExportError(
                f"wandb did not take {run.name} ({type(error).__name__}: {error}): `wandb login`, "
                "or WANDB_MODE=offline for a folder that `wandb sync` sends later"
            ) from error

    def where(self) -> str:
        """See the contract."""
        import wandb

        if wandb.setup().settings.mode == "offline":
            return f"wandb sync {self.folder / 'wandb'}/offline-run-*"
        return f"project {self.project} on wandb"


def open_tracker(workspace: Workspace, project: str) -> WandbTracker:
    """For one project."""
    return WandbTracker(workspace.scratch_dir, project)
