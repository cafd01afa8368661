"""What `distil extend` and `distil restart` share: no command of its own."""

import argparse
from pathlib import Path

from distil_core.campaign.params_file import replaced_params_file
from distil_core.campaign.pins import unpinned_files
from distil_core.workspace import Workspace
from distil_flows.ownership import served_name


def add_set(command: argparse.ArgumentParser) -> None:
    """Take single settings, as `overrides`."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="a setting such as train.learning_rate=1e-5, written into params.yaml first; may be "
        "given several times (docs/settings.md)",
    )


def add_no_check(command: argparse.ArgumentParser) -> None:
    """Take `no_check`."""
    command.add_argument(
        "--no-check",
        action="store_true",
        help="freeze without a look at the files of problems and models, for another machine",
    )


def params_text(workspace: Workspace) -> bytes:
    """What params.yaml holds; nothing where there is none."""
    file = workspace.params_file
    return file.read_bytes() if file.exists() else b""


def say_params_changed(workspace: Workspace, former: bytes, by: Path | str) -> None:
    """Say what took the place of params.yaml, and where the former one is kept."""
    kept = replaced_params_file(workspace, former)
    if params_text(workspace) != former and kept.exists():
        what = "holds what --set asked for" if by == "--set" else f"holds {by}"
        print(f"params.yaml now {what}; what it held is kept as {workspace.relative(kept)}")


def say_frozen(workspace: Workspace, iterations: list[int]) -> None:
    """Say what was frozen and how to run it."""
    for path in unpinned_files(workspace):
        print(f"{path} is not pinned yet, and the first stage will stop at it: run `distil pin`")
    numbers = f"{iterations[0]} to {iterations[-1]}" if iterations[1:] else f"{iterations[0]}"
    deployment = f"distil-iteration/{served_name(workspace)}"
    print(
        f"params.yaml is frozen as iteration {numbers}. To run what is new: `dvc repro`, "
        f"`distil run`, or `prefect deployment run {deployment} --watch`."
    )
