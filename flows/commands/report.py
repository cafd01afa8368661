"""`distil report`: write report.html, all of the campaign in one file, and log it to MLflow."""

import argparse

from distil_core.report.write import write_report
from distil_core.workspace import Workspace


def add_arguments(_: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(workspace: Workspace, _: argparse.Namespace) -> int:
    """Write the report and say where."""
    print(f"The campaign's report: {write_report(workspace).file}")
    return 0
