"""The kinds of components, each with its checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distil_core.component_kinds import KINDS, registry_of
from distil_core.errors import ConfigError
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import Row
from distil_core.testing.checks import Check
from distil_core.testing.engines import engine_checks
from distil_core.testing.environments import environment_checks
from distil_core.testing.experts import expert_checks
from distil_core.testing.feedback_sources import feedback_source_checks
from distil_core.testing.objectives import objective_checks
from distil_core.testing.problem_sources import problem_source_checks
from distil_core.testing.programs import program_checks
from distil_core.testing.row_formats import row_format_checks
from distil_core.testing.tools import tool_checks
from distil_core.testing.verifiers import verifier_checks


@dataclass(frozen=True)
class Samples:
    """What a component is tried with. problems: for verifiers, environments, experts and programs.
    responses: in the form that a verifier, an environment or a program reads, and for a tool calls
    as JSON. rows: for row formats. policy_dir: for engines and experts."""

    problems: Sequence[Problem] = ()
    responses: Sequence[str] = ()
    rows: Sequence[Row] = ()
    policy_dir: Path | None = None


def component_checks(
    kind: str, name: str, options: Mapping[str, Any], samples: Samples
) -> list[Check]:
    """The checks of a component of any of `KINDS`."""
    made: dict[str, Callable[[], list[Check]]] = {
        "engine": lambda: engine_checks(name, options, samples.policy_dir),
        "environment": lambda: environment_checks(
            name, options, samples.problems, samples.responses
        ),
        "expert": lambda: expert_checks(name, options, samples.problems, samples.policy_dir),
        "feedback source": lambda: feedback_source_checks(name, options),
        "objective": lambda: objective_checks(name, options),
        "problem source": lambda: problem_source_checks(name, options),
        "program": lambda: program_checks(name, options, samples.problems, samples.responses),
        "row format": lambda: row_format_checks(name, options, samples.rows),
        "tool": lambda: tool_checks(name, options, samples.responses),
        "verifier": lambda: verifier_checks(name, options, samples.problems, samples.responses),
    }
    return made[kind]()


def kind_of(name: str) -> str:
    """The one kind that has a component of this name; for a dotted path, the kind that its Options
    are made for. `ConfigError` where that is none, or where there are several."""
    found, reasons = [], []
    for kind in KINDS:
        registry = registry_of(kind)
        try:
            component = registry.resolve(name)
        except ConfigError as error:
            reasons.append(error)
            continue
        options = vars(component.module()).get("Options")
        is_named = component.origin != "dotted_path"
        if is_named or (isinstance(options, type) and issubclass(options, registry.options_base)):
            found.append(kind)
    if len(reasons) == len(KINDS):
        raise ConfigError(f"no component of any kind is named {name!r}. {_shortest(reasons)}")
    if len(found) != 1:
        which = f"{' and '.join(found)} are" if found else "its Options are of no kind, which is"
        raise ConfigError(f"{name!r}: {which} what it may be: say which with --kind")
    return found[0]


def _shortest(reasons: Sequence[ConfigError]) -> str:
    return min(map(str, reasons), key=len)
