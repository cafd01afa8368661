"""The `distil` command: what prefect, dvc and mlflow have no word for.

Nothing heavy is imported before a command needs it, so that `distil --help` answers at once.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from distil_core.errors import DistilError
from distil_core.workspace import Workspace


def main() -> NoReturn:
    """Run one command; exit 1 after a message that says what to do, 2 for a wrong command line."""
    arguments = _parser().parse_args()
    workspace = Workspace(Path.cwd())
    try:
        if arguments.prepares_code:
            _prepare_code(workspace)
        sys.exit(arguments.run(workspace, arguments))
    except DistilError as error:
        print(f"distil: {error}", file=sys.stderr)
        sys.exit(1)


def _prepare_code(workspace: Workspace) -> None:
    from distil_core.lineage.dvc.code import prepare_code

    prepare_code(workspace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distil",
        description="Adds iterations to a campaign, records and reports it, checks the "
        "installation. "
        "Everything else has the words of prefect, dvc and mlflow. "
        "Run it in the root of a workspace.",
    )
    # What only reads changes nothing in the workspace; a restart makes the links itself.
    parser.set_defaults(prepares_code=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    extend = commands.add_parser(
        "extend", help="add iterations with the settings of params.yaml; earlier ones stay"
    )
    extend.add_argument("--count", type=int, default=1, metavar="K", help="how many (default 1)")
    _add_set(extend)
    extend.set_defaults(run=_extend, prepares_code=True)

    restart = commands.add_parser(
        "restart", help="freeze params.yaml afresh as iterations 0 to num_iterations"
    )
    restart.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="settings that take the place of params.yaml first, such as presets/science.yaml, or "
        "the name of a preset; the former ones are kept",
    )
    _add_set(restart)
    restart.set_defaults(run=_restart)

    settings = commands.add_parser(
        "settings", help="print every setting and every component's options, with their meaning"
    )
    settings.add_argument(
        "--schema", action="store_true", help="print the JSON schema of params.yaml for an editor"
    )
    settings.set_defaults(run=_settings)

    record = commands.add_parser(
        "record", help="bring MLflow up to date after `dvc repro`, which does not record there"
    )
    record.set_defaults(run=_record, prepares_code=True)

    _add_reproduce(commands)

    report = commands.add_parser(
        "report", help="write report.html, all of the campaign in one file, and log it to MLflow"
    )
    report.set_defaults(run=_report, prepares_code=True)

    lineage = commands.add_parser(
        "lineage", help="what a model was made from, or which models a dataset led to"
    )
    lineage.add_argument(
        "artifact",
        help="a registered version (NAME/3, NAME@champion), a policy (policy-003), a path of "
        "dvc.lock, or the first 6 or more digits of an md5",
    )
    lineage.add_argument(
        "--forward",
        action="store_true",
        default=None,
        help="what was made from it (a dataset is always shown so, unless --backward)",
    )
    lineage.add_argument(
        "--backward", dest="forward", action="store_false", help="what it was made from"
    )
    lineage.add_argument("--dot", action="store_true", help="print the graph for Graphviz")
    lineage.set_defaults(run=_lineage)

    _add_check_component(commands)

    doctor = commands.add_parser("doctor", help="check the installation and say what to mend")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="a setting such as train.learning_rate=1e-5, written into params.yaml first; may be "
        "given several times (docs/settings.md)",
    )


def _add_reproduce(commands: Any) -> None:
    command = commands.add_parser(
        "reproduce", help="run an iteration again from its snapshot and compare every artifact"
    )
    command.add_argument(
        "target", type=_target, metavar="CAMPAIGN/ITERATION", help="such as chain-arithmetic/3"
    )
    command.add_argument(
        "--from-scratch", action="store_true", help="run all it came from again as well"
    )
    command.add_argument("--keep", action="store_true", help="leave the worktree to look at")
    command.set_defaults(run=_reproduce, prepares_code=True)


def _add_check_component(commands: Any) -> None:
    from flows.check_component import add_arguments

    command = commands.add_parser(
        "check-component",
        help="try out a component of your own: objective, verifier, expert, engine, problem source",
    )
    add_arguments(command)
    command.set_defaults(run=_check_component)


def _check_component(workspace: Workspace, arguments: argparse.Namespace) -> int:
    from flows.check_component import run

    return run(workspace, arguments)


def _target(text: str) -> tuple[str, int]:
    from flows.reproduce import target

    return target(text)


def _reproduce(workspace: Workspace, arguments: argparse.Namespace) -> int:
    from flows.reproduce import run

    return run(workspace, arguments)


def _extend(workspace: Workspace, arguments: argparse.Namespace) -> int:
    from distil_core.campaign.iterations import extend
    from flows.stages import stage_versions

    former = _params_text(workspace)
    iterations = extend(workspace, stage_versions(), arguments.count, arguments.overrides)
    _say_params_changed(workspace, former, "--set")
    _say_frozen(workspace, iterations)
    return 0


def _restart(workspace: Workspace, arguments: argparse.Namespace) -> int:
    from distil_core.campaign.iterations import restart
    from flows.stages import stage_versions

    former = _params_text(workspace)
    iterations = restart(workspace, stage_versions(), arguments.params, arguments.overrides)
    _say_params_changed(workspace, former, arguments.params or "--set")
    _say_frozen(workspace, iterations)
    return 0


def _params_text(workspace: Workspace) -> bytes:
    file = workspace.params_file
    return file.read_bytes() if file.exists() else b""


def _say_params_changed(workspace: Workspace, former: bytes, by: Any) -> None:
    from distil_core.campaign.params_file import replaced_params_file

    kept = replaced_params_file(workspace, former)
    if _params_text(workspace) != former and kept.exists():
        what = "holds what --set asked for" if by == "--set" else f"holds {by}"
        print(f"params.yaml now {what}; what it held is kept as {workspace.relative(kept)}")


def _say_frozen(workspace: Workspace, iterations: list[int]) -> None:
    from flows.ownership import served_name

    numbers = f"{iterations[0]} to {iterations[-1]}" if iterations[1:] else f"{iterations[0]}"
    deployment = f"distil-iteration/{served_name(workspace)}"
    print(
        f"params.yaml is frozen as iteration {numbers}. To run what is new: `dvc repro`, "
        f"`make run`, or `prefect deployment run {deployment} --watch`."
    )


def _settings(_: Workspace, arguments: argparse.Namespace) -> int:
    from distil_core.campaign.reference import schema_text, settings_page

    print(schema_text() if arguments.schema else settings_page(), end="")
    return 0


def _record(workspace: Workspace, _: argparse.Namespace) -> int:
    from distil_core.lineage.evidence.snapshots import ensure_snapshots
    from distil_core.lineage.mlflow.record import record_all, why_not_recorded

    ensure_snapshots(workspace)
    recorded = record_all(workspace)
    created = sum(iteration.created for iteration in recorded)
    print(f"MLflow: {len(recorded)} finished iterations, {created} of them recorded now")
    reason = why_not_recorded(workspace)
    if reason:
        print(f"Not all of the campaign is up to date: {reason}")
    return 0


def _report(workspace: Workspace, _: argparse.Namespace) -> int:
    from distil_core.report.write import write_report

    print(f"The campaign's report: {write_report(workspace)}")
    return 0


def _lineage(workspace: Workspace, arguments: argparse.Namespace) -> int:
    from distil_core.lineage.view.read import read_lineage
    from distil_core.lineage.view.text import as_dot, as_text

    lineage = read_lineage(workspace, arguments.artifact, arguments.forward)
    print(as_dot(lineage) if arguments.dot else as_text(lineage))
    if arguments.dot:
        for problem in lineage.disagreements:
            print(f"distil: DVC and MLflow disagree: {problem}", file=sys.stderr)
    return 1 if lineage.disagreements else 0


def _doctor(workspace: Workspace, _: argparse.Namespace) -> int:
    from distil_core.doctor import examine

    findings = examine(workspace)
    for finding in findings:
        print(finding.line())
    return 1 if any(finding.level == "problem" for finding in findings) else 0


if __name__ == "__main__":
    main()
