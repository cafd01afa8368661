"""The `distil` command: what prefect, dvc and mlflow have no word for.

Nothing heavy is imported before a command needs it, so that `distil --help` answers at once.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from distil_core.errors import DistilError
from distil_core.files import until_nobody_reads, why_not_written
from distil_core.workspace import Workspace, find_workspace


@dataclass(frozen=True)
class Command:
    """A command of `distil_flows.commands`, in the module of its name.

    prepares_code: whether links to the code of users' components are made first. What only reads
    changes nothing in the workspace; a restart and a run make them themselves.
    """

    name: str
    help: str
    prepares_code: bool = False

    @property
    def module(self) -> Any:
        """Its module, imported when it is asked for."""
        return import_module(f"distil_flows.commands.{self.name.replace('-', '_')}")


COMMANDS = (
    Command("init", "make a workspace, with git and DVC, from what is installed"),
    Command("run", "run whatever is not up to date, shown in the terminal"),
    Command("extend", "add iterations with the settings of params.yaml; earlier ones stay", True),
    Command("restart", "freeze params.yaml afresh as iterations 0 to num_iterations"),
    Command("preview", "try a handful of problems through everything, with nothing recorded"),
    Command(
        "check-problems",
        "does the verifier accept each reference and refuse others, and do the contexts fit?",
    ),
    Command("pin", "write the digests of the files of problems into params.yaml"),
    Command("settings", "print every setting and every component's options, with their meaning"),
    Command("serve", "wait for runs that are asked for through a Prefect server"),
    Command("ui", "show the lineage of every policy in MLflow"),
    Command(
        "record", "bring MLflow up to date after `dvc repro`, which does not record there", True
    ),
    Command(
        "reproduce", "run an iteration again from its snapshot and compare every artifact", True
    ),
    Command(
        "report", "write report.html, all of the campaign in one file, and log it to MLflow", True
    ),
    Command(
        "samples", "write a page to look at rollouts, feedback, the expert and credit per token"
    ),
    Command("compare", "compare campaigns: scores, differences, settings, cost"),
    Command("lineage", "what a model was made from, or which models a dataset led to"),
    Command("export", "write a policy as a plain Hugging Face folder, with its scores and lineage"),
    Command("openlineage", "tell a file or a server the lineage, as OpenLineage run events"),
    Command("track", "write finished iterations into trackio or wandb, beside MLflow"),
    Command(
        "check-component",
        "try out a component of your own: objective, verifier, expert, engine, problem source",
    ),
    Command("new", "write a package with a component of your own, which works as written"),
    Command("upgrade", "bring dvc.yaml up to the installed version; what is recorded stays"),
    Command("doctor", "check the installation and say what to mend"),
    Command("completion", "print what makes a shell complete commands, options and files"),
)


@until_nobody_reads()
def main() -> NoReturn:
    """Run one command; exit 1 after a message that says what to do, 2 for a wrong command line.

    In a subfolder of a workspace it works on that workspace, as git and dvc do.
    """
    here = Path.cwd()
    command, arguments = _parse(sys.argv[1:])
    workspace = find_workspace(here)
    if workspace.root != here:
        _anchor_paths(arguments, here)
        os.chdir(workspace.root)
    workspace.make_code_importable()
    try:
        if command.prepares_code:
            _prepare_code(workspace)
        sys.exit(command.module.run(workspace, arguments))
    except DistilError as error:
        print(f"distil: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        reason = why_not_written(error)
        if reason is None:
            raise
        print(f"distil: {reason}", file=sys.stderr)
        sys.exit(1)


def _prepare_code(workspace: Workspace) -> None:
    from distil_core.lineage.dvc.code import prepare_code

    prepare_code(workspace)


class _Version(argparse.Action):
    """Asks the installed package for its version only where that is wanted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"distil {version('distil')}")
        parser.exit()


def full_parser() -> argparse.ArgumentParser:
    """Every command with what it takes, which imports all of them."""
    return _parser([command.name for command in COMMANDS])


def _parse(words: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    parser = _parser(words)
    _refuse_unknown_command(parser, words)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        _refuse_unknown_options(arguments.parser, unknown)
    return arguments.command, arguments


def _parser(asked_for: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distil",
        description="Runs a campaign, adds iterations to it, records and reports it, checks the "
        "installation. Everything else has the words of prefect, dvc and mlflow. "
        "Run it in a workspace or below.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help)
        subparser.set_defaults(command=command, parser=subparser)
        # Only the one that is asked for says what it takes, since that imports it.
        if command.name in asked_for:
            command.module.add_arguments(subparser)
    return parser


def _refuse_unknown_command(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Exit 2 with the command that may have been meant, as git does."""
    name = next((word for word in words if not word.startswith("-")), None)
    known = [command.name for command in COMMANDS]
    if name is not None and name not in known:
        from distil_core.validation import nearest

        parser.error(f"no command {name!r}{nearest(name, known)}")


def _refuse_unknown_options(command: argparse.ArgumentParser, unknown: Sequence[str]) -> None:
    from distil_core.validation import did_you_mean

    options = dict.fromkeys(re.findall(r"--[a-z][\w-]*", command.format_help()))
    hints = (did_you_mean(word.partition("=")[0], options) for word in unknown)
    hint = next((found for found in hints if found), "")
    command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def _anchor_paths(arguments: argparse.Namespace, here: Path) -> None:
    """Have paths that were given from another folder than the root mean what they meant there."""
    for name, value in vars(arguments).items():
        if isinstance(value, Path) and (here / value).exists():
            setattr(arguments, name, here / value)


if __name__ == "__main__":
    main()
