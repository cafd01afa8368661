"""`distil upgrade`: bring a workspace's dvc.yaml up to the installed version of DistIL."""

import argparse

from distil_core.lineage.dvc.upgrade import upgrade
from distil_core.workspace import Workspace


def add_arguments(_: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(workspace: Workspace, _: argparse.Namespace) -> int:
    """Say what was written anew."""
    done = upgrade(workspace)
    if not done.stages:
        print("dvc.yaml is of this version already; nothing was changed")
        return 0
    print(f"dvc.yaml: {', '.join(done.stages)} written anew")
    if done.renamed:
        print(f"dvc.lock: {len(done.renamed)} recorded stages are called by their new commands")
    print("`dvc status` says what is to be run; `git diff` shows what changed, commit it.")
    return 0
