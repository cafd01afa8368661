"""`distil check-component`: the contract tests of a component, as a table with what to do."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distil_core.component_kinds import KINDS, registry_of
from distil_core.errors import ConfigError
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from distil_core.config.models import Component, Params
    from distil_core.problems.base import Problem

_KINDS = tuple(kind.replace(" ", "-") for kind in KINDS)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "name", help="as in the settings, such as my_lab.focal_objective, or a short name"
    )
    command.add_argument("--kind", choices=_KINDS, help="what it is, where its Options do not tell")
    command.add_argument(
        "--options",
        metavar="YAML",
        help="its options, such as '{gamma: 2}', or a file of them; those of params.yaml where "
        "that names the component",
    )
    command.add_argument(
        "--source",
        metavar="NAME",
        help="problem source to try a verifier, an expert or a program with; that of params.yaml "
        "where that names the component",
    )
    command.add_argument("--source-options", metavar="YAML", help="its options, or a file of them")
    command.add_argument(
        "--response",
        action="append",
        default=[],
        metavar="TEXT",
        help="a response in the form that a verifier or program reads, right or wrong; may be "
        "repeated",
    )
    command.add_argument(
        "--rows", type=Path, metavar="FILE", help="JSON lines that a row format is tried with"
    )
    command.add_argument(
        "--policy",
        type=Path,
        metavar="FOLDER",
        help="checkpoint that an engine or an expert is tried with, in place of a tiny one",
    )


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Print the table; 1 where a check failed."""
    from distil_core.testing import as_table, run_checks
    from distil_core.testing.kinds import Samples, component_checks, kind_of

    name: str = arguments.name
    kind = arguments.kind.replace("-", " ") if arguments.kind else kind_of(name)
    component = registry_of(kind).resolve(name)
    params = _settings(workspace)
    in_settings = _in_settings(kind, name, params)
    options = _yaml(arguments.options, "--options")
    if arguments.options is None and in_settings is not None:
        options = in_settings.options
    samples = Samples(
        _problems(arguments, params if in_settings else None),
        arguments.response,
        _rows(arguments.rows),
        arguments.policy,
    )
    results = run_checks(component_checks(kind, name, options, samples))
    given = f"with options {json.dumps(options, default=str)}" if options else "without options"
    print(as_table(f"{component.described()}, {given}", results))
    return int(any(result.outcome == "failed" for result in results))


def _settings(workspace: Workspace) -> "Params | None":
    """Those of the workspace, where there are any that can be read."""
    from distil_core.campaign.load import load_params

    try:
        return load_params(workspace)
    except ConfigError:
        return None


def _in_settings(kind: str, name: str, params: "Params | None") -> "Component | None":
    """The settings' component of this kind, where it has this name."""
    from distil_core.campaign.parts import part_of_kind

    if params is None:
        return None
    found = part_of_kind(params, kind)
    return found if found is not None and found.name == name else None


def _problems(arguments: argparse.Namespace, params: "Params | None") -> "list[Problem]":
    from distil_core.problems import PROBLEM_SOURCES
    from distil_core.testing.problem_sources import some_problems

    if arguments.source is not None:
        options = _yaml(arguments.source_options, "--source-options")
        return some_problems(PROBLEM_SOURCES.build(arguments.source, options))
    if params is None:
        return []
    source = params.problems.source
    return some_problems(PROBLEM_SOURCES.build(source.name, source.options))


def _yaml(text: str | None, option: str) -> Mapping[str, Any]:
    import yaml

    from distil_core.yaml_text import parse_yaml

    if text is None:
        return {}
    where = option
    if "{" not in text and Path(text).is_file():
        where, text = text, Path(text).read_text(encoding="utf-8")
    try:
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a mapping such as '{{gamma: 2}}', found {values!r}")
    return values


def _rows(file: Path | None) -> list[dict[str, Any]]:
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--rows {file}: expected one JSON object a line ({error})") from error
    if not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"--rows {file}: expected one JSON object a line")
    return rows
