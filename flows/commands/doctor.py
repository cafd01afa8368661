"""`distil doctor`: check the installation and say what to mend."""

import argparse

from distil_core.doctor import examine
from distil_core.workspace import Workspace


def add_arguments(_: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(workspace: Workspace, _: argparse.Namespace) -> int:
    """Print each finding; 1 where one stops a campaign."""
    findings = examine(workspace)
    for finding in findings:
        print(finding.line())
    return 1 if any(finding.level == "problem" for finding in findings) else 0
