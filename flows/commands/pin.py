"""`distil pin`: write the digests of the files that problems or a base are read from into
params.yaml."""

import argparse

from distil_core.campaign.pins import pin_files
from distil_core.workspace import Workspace
from distil_flows.commands.freezing import params_text, say_params_changed

_DIGITS = 12


def add_arguments(_: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(workspace: Workspace, _: argparse.Namespace) -> int:
    """Pin the files and say what their digests are now."""
    former = params_text(workspace)
    pinned = pin_files(workspace)
    for each in pinned:
        before = f"before {each.before[:_DIGITS]}.." if each.before else "not pinned before"
        change = "as pinned before" if each.before == each.now else before
        print(f"{each.path}: sha256 {each.now[:_DIGITS]}.. ({change})")
    say_params_changed(workspace, former, "the files' digests")
    if any(each.before != each.now for each in pinned):
        print("`distil restart` freezes them into a campaign.")
    return 0
