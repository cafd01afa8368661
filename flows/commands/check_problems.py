"""`distil check-problems`: does the verifier judge the problems as it should, and do they fit?"""

import argparse
import tempfile
from pathlib import Path

from distil_core.errors import ConfigError
from distil_core.workspace import Workspace


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "--limit", type=int, metavar="N", help="problems of each split; default all of them"
    )
    command.add_argument(
        "--show", type=int, default=3, metavar="N", help="failures shown of each check (default 3)"
    )
    command.add_argument(
        "--answer-form",
        metavar="TEXT",
        help="how an answer is written, such as '<answer>{reference}</answer>'; found out where "
        "it is a usual one",
    )
    command.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="settings in place of params.yaml, or a preset's name",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="a setting to try; written nowhere",
    )


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Print counts and the first failures; 1 where there is any."""
    from rich.console import Console

    from distil_core.files import private_folder
    from distil_core.preview.problem_checks import FIELD, check_problems
    from distil_core.preview.problem_report import rendered_report
    from distil_core.preview.settings import previewed_params
    from distil_tasks.stage import progress_bar

    form = arguments.answer_form
    if form is not None and FIELD not in form:
        raise ConfigError(f"--answer-form {form!r}: expected {FIELD} in it")
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit must be at least 1, found {arguments.limit}")
    params = previewed_params(workspace, arguments.params, overrides=arguments.overrides)
    private_folder(workspace.scratch_dir)
    with (
        tempfile.TemporaryDirectory(dir=workspace.scratch_dir, prefix="problems-") as folder,
        progress_bar("check-problems") as progress,
    ):
        report = check_problems(params, Path(folder), progress, arguments.limit, form)
    Console().print(rendered_report(report, arguments.show))
    return int(report.num_failed > 0)
