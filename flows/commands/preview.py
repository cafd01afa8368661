"""`distil preview`: a handful of problems through everything, with nothing recorded."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

    from distil_core.preview.views import PreviewView

_PAGE = "preview.html"
_REFRESH_S = 3


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "--problems", type=int, default=16, metavar="N", help="how many (default 16)"
    )
    command.add_argument(
        "--examples", type=int, default=1, metavar="N", help="how many to print in full (default 1)"
    )
    command.add_argument(
        "--policy",
        metavar="WHICH",
        help="`latest`, the policy that the next iteration would start from; an iteration's "
        "number; or a checkpoint folder. Default: the base",
    )
    command.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="settings in place of params.yaml, or a preset's name",
    )
    command.add_argument(
        "--template-file",
        type=Path,
        metavar="FILE",
        help="the expert's template to try, as plain text, or settings of `context` as YAML",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="a setting to try, such as sample.temperature=0.7; written nowhere",
    )
    command.add_argument(
        "--watch",
        action="store_true",
        help="try again whenever the settings or the template change, until Ctrl-C",
    )
    command.add_argument(
        "--html", type=Path, metavar="FILE", help=f"the page (default .distil/{_PAGE})"
    )


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Print it and write the page; 1 where it finds a problem."""
    from rich.console import Console

    from distil_core.errors import ConfigError, DistilError
    from distil_core.files import private_folder
    from distil_core.preview.session import Choices, PreviewSession
    from distil_core.preview.settings import previewed_params
    from distil_tasks.stage import prepare_torch, progress_bar

    if arguments.problems < 1:
        raise ConfigError(f"--problems must be at least 1, found {arguments.problems}")
    choices = Choices(
        arguments.problems,
        arguments.policy,
        arguments.params,
        arguments.template_file,
        arguments.overrides,
    )
    if not arguments.watch:
        # Refused before the scratch folder is made, as outside of a workspace.
        previewed_params(workspace, choices.params_file, choices.template_file, choices.overrides)
    private_folder(workspace.scratch_dir)
    console = Console()
    page = arguments.html or workspace.scratch_dir / _PAGE
    with tempfile.TemporaryDirectory(dir=workspace.scratch_dir, prefix="preview-") as folder:
        session = PreviewSession(
            workspace, choices, Path(folder), prepare_torch, keeps=arguments.watch
        )
        if not arguments.watch:
            with progress_bar("preview") as progress:
                view = session.try_once(progress)
            return _show(view, console, page, arguments)
        try:
            with progress_bar("preview") as progress:
                for found in session.watch(progress):
                    if isinstance(found, DistilError):
                        console.print(f"\n{found}", style="red", markup=False, highlight=False)
                    else:
                        _show(found, console, page, arguments)
                    console.print("Waiting for another change of the settings; Ctrl-C ends.")
        except KeyboardInterrupt:
            pass
    return 0


def _show(
    view: "PreviewView", console: "Console", page: Path, arguments: argparse.Namespace
) -> int:
    from distil_core.files import write_text
    from distil_core.preview.page import render_page
    from distil_core.preview.terminal import rendered

    console.print(rendered(view, arguments.examples))
    write_text(page, render_page(view, _REFRESH_S if arguments.watch else None), private=True)
    console.print(f"All of it: {page}", highlight=False, soft_wrap=True)
    return int(any(finding.level == "problem" for finding in view.findings))
