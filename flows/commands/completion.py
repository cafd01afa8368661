"""`distil completion SHELL`: what makes a shell complete commands, options and files."""

import argparse
from pathlib import Path

from distil_core.workspace import Workspace

SHELLS = ("bash", "zsh")
_WHERE = {
    "bash": 'eval "$(distil completion bash)" in ~/.bashrc',
    "zsh": "distil completion zsh > a folder of $fpath, as _distil",
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    where = "; ".join(_WHERE.values())
    command.add_argument("shell", choices=SHELLS, help=f"print what it reads: {where}")


def run(_: Workspace, arguments: argparse.Namespace) -> int:
    """Print the shell's script. It is made of the commands as they are, so completing starts no
    Python."""
    import shtab

    from distil_flows.cli import full_parser

    parser = full_parser()
    for one in _with_subparsers(parser):
        for action in one._actions:
            if _takes_a_path(action):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, arguments.shell))
    return 0


def _takes_a_path(action: argparse.Action) -> bool:
    kind = action.type
    return kind is Path or getattr(kind, "__annotations__", {}).get("return") is Path


def _with_subparsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    inner = [
        subparser
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for subparser in action.choices.values()
    ]
    return [parser, *inner]
