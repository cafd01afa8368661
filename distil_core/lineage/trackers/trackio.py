"""trackio: a local store with a page of its own (`trackio show`)."""

import contextlib
import io
import warnings
from dataclasses import dataclass

from distil_core.errors import ExportError
from distil_core.lineage.trackers.base import TrackedRun
from distil_core.workspace import Workspace


@dataclass(frozen=True)
class TrackioTracker:
    """Where the store lies follows trackio's own variables (TRACKIO_DIR, TRACKIO_SERVER_URL)."""

    project: str

    def write(self, run: TrackedRun) -> None:
        """See the contract. trackio goes on after errors and only warns of them; here they end."""
        import trackio

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    trackio.init(
                        project=self.project,
                        name=run.name,
                        group=run.group,
                        config={"distil.id": run.id, **run.settings},
                        resume="allow",
                        embed=False,
                        # The figures are of a run that is over, perhaps on another machine.
                        auto_log_gpu=False,
                        auto_log_cpu=False,
                    )
                    for step, figures in run.points:
                        trackio.log(dict(figures), step=step)
                    trackio.finish()
            except Exception as error:  # trackio raises many unrelated types
                raise ExportError(
                    f"trackio did not take {run.name} ({type(error).__name__}: {error})"
                ) from error
        lost = [str(one.message) for one in warned if "trackio" in str(one.message)]
        if lost:
            raise ExportError(f"trackio did not take all of {run.name}: {lost[0]}")

    def where(self) -> str:
        """See the contract."""
        return f'trackio show --project "{self.project}"'


def open_tracker(_: Workspace, project: str) -> TrackioTracker:
    """For one project."""
    return TrackioTracker(project)
