"""Write the campaign's report and add it to the campaign's record."""

from dataclasses import dataclass
from pathlib import Path

from distil_core.files import write_text
from distil_core.lineage.mlflow.record import record_report
from distil_core.progress import ProgressCallback, no_progress
from distil_core.report.gather import gather_campaign
from distil_core.report.page import render_report
from distil_core.workspace import Workspace


@dataclass(frozen=True)
class WrittenReport:
    """Where the report is: its file, and its page's address relative to MLflow's (None where no
    iteration is finished)."""

    file: Path
    page: str | None


def write_report(workspace: Workspace, progress: ProgressCallback = no_progress) -> WrittenReport:
    """Write report.html from the finished iterations, and log it to the campaign's run in MLflow.

    The report is a view, not an artifact of the pipeline: it shows seconds, which differ from run
    to run, and can be made again from the artifacts at any time. Raises `DataError` when there is
    nothing to report, and `LineageError` when a file is not the one that DVC recorded.
    """
    page = render_report(gather_campaign(workspace, progress))
    write_text(workspace.report_file, page)
    return WrittenReport(workspace.report_file, record_report(workspace, workspace.report_file))
