"""`iterations.yaml`: what `dvc.yaml` makes its stages from, read and written in one place."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

from distil_core.errors import ConfigError
from distil_core.files import write_text
from distil_core.pipeline import CURVES, EVALUATE, SCORES, STAGES, Stage
from distil_core.source_code import BUILT_IN_FILE, link_sources
from distil_core.workspace import Workspace, iteration_key
from distil_core.yaml_text import parse_yaml

Listing = dict[str, dict[str, Any]]
"""`iterations.yaml`: what dvc.yaml's `foreach` and plots go over."""

ONCE = tuple(stage for stage in STAGES if not stage.per_iteration and stage.uses)
EVALUATED = (EVALUATE,)
TRAINED = tuple(s for s in STAGES if s.per_iteration and s.uses and s is not EVALUATE)
"""Stages whose code an entry names: of `code`, `evaluations` and `iterations`."""

LISTING_VERSION = 1
"""The form of the file, `schema_version` in it. Earlier ones are told apart by what they hold."""

_HEADER = (
    "# Written by `distil extend`: what dvc.yaml makes its stages from.\n"
    "# The keys are quoted: DVC silently makes no stage of a number.\n"
)


def empty_listing() -> Listing:
    """Of a campaign without iterations."""
    curves: dict[str, Any] = {name: {} for name in (*CURVES, SCORES.y)}
    return {"code": _built_in(ONCE), "iterations": {}, "evaluations": {}, "curves": curves}


def _built_in(stages: tuple[Stage, ...]) -> dict[str, str]:
    return {stage.name: BUILT_IN_FILE for stage in stages}


def read_listing(workspace: Workspace) -> Listing:
    """The iterations as listed; of an older file with the code that dvc.yaml asks for. Raises
    `ConfigError` when the file was damaged by hand."""
    path = workspace.iterations_file
    remedy = "restore it with `git checkout iterations.yaml`"
    try:
        text = path.read_text(encoding="utf-8")
        values = _in_present_form(parse_yaml(text), workspace)
    except FileNotFoundError as error:
        raise ConfigError(
            f"no iterations.yaml in {workspace.root}: run in a DistIL workspace, which "
            f"`distil init` makes, or {remedy}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"iterations.yaml is not valid YAML: {error}; {remedy}") from error
    empty = empty_listing()
    shaped = isinstance(values, dict) and values.keys() == empty.keys()
    if not shaped or not all(isinstance(values[section], dict) for section in empty):
        raise ConfigError(f"iterations.yaml: expected the mappings {', '.join(empty)}; {remedy}")
    keys = [iteration_key(number) for number in range(len(values["evaluations"]))]
    if (
        list(values["evaluations"]) != keys
        or list(values["iterations"]) != keys[1:]
        or re.search(r"^\s*\d+\s*:", text, re.MULTILINE)
    ):
        raise ConfigError(
            "iterations.yaml: expected the quoted keys '000', '001' .. in order under "
            f"evaluations, and the same from '001' under iterations; {remedy}"
        )
    listing: Listing = values
    return listing


def lists_code(values: Any) -> bool:
    """Whether the file names the code of its stages, as it did not before components could be a
    user's own."""
    return not isinstance(values, dict) or "code" in values


def listed_dependency(workspace: Workspace, stage: Stage, iteration: int) -> str | None:
    """What the stage depends on for its users' components, as listed; None for a stage that uses
    no components at all."""
    listing = read_listing(workspace)
    if not stage.per_iteration:
        return listing["code"].get(stage.name)
    section = "evaluations" if stage in EVALUATED else "iterations"
    code: dict[str, str] = listing[section].get(iteration_key(iteration), {}).get("code", {})
    return code.get(stage.name)


def refresh_links(workspace: Workspace) -> None:
    """Have `code/` hold links to the sources that the listed stages are made with, as their
    imports are now. A module that is gone takes its links with it: stages that need it are stale,
    and say so when they are to run."""
    workspace.make_code_importable()
    path = workspace.iterations_file
    link_sources(workspace, _dependencies(workspace, path.read_bytes() if path.exists() else b""))


@lru_cache(maxsize=4)
def _dependencies(workspace: Workspace, _: bytes) -> tuple[str, ...]:
    """All that are listed. Read once for each content of the file: every stage asks, and a long
    campaign's takes a while."""
    listing = read_listing(workspace)
    entries = (*listing["iterations"].values(), *listing["evaluations"].values())
    found = dict.fromkeys(listing["code"].values())
    for entry in entries:
        found |= dict.fromkeys(entry["code"].values())
    return tuple(found)


def _in_present_form(values: Any, workspace: Workspace) -> Any:
    if not isinstance(values, dict):
        return values
    version = values.get("schema_version", LISTING_VERSION if lists_code(values) else 0)
    if type(version) is not int or version > LISTING_VERSION:
        raise ConfigError(
            f"iterations.yaml: schema_version is {version!r}, and this version of DistIL knows "
            f"forms up to {LISTING_VERSION}: a newer one wrote it. Go on with that one"
        )
    listed = {key: value for key, value in values.items() if key != "schema_version"}
    return _with_code(_with_gates(listed, workspace))


def _with_gates(values: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
    """Values of before there were gates and scores of experts, with where these would be."""
    parts: list[Any] = [values.get(name) for name in ("curves", "iterations", "evaluations")]
    curves, entries, evaluations = parts
    if not all(isinstance(each, dict) for each in parts):
        return values
    every = [*entries.values(), *evaluations.values()]
    if SCORES.y in curves or not all(isinstance(entry, dict) for entry in every):
        return values
    base = workspace.relative(workspace.policy_dir(0))
    experts = {key: entry.get("expert_policy", base) for key, entry in entries.items()}
    return values | {
        "curves": curves | {SCORES.y: {}},
        "iterations": {
            key: _handovers(workspace, parent) | entry
            for parent, (key, entry) in enumerate(entries.items())
        },
        "evaluations": {
            key: {"expert_policy": experts.get(key, base)} | entry
            for key, entry in evaluations.items()
        },
    }


def _handovers(workspace: Workspace, parent: int) -> dict[str, str]:
    return {
        "parent_evaluation": workspace.relative(workspace.handover_evaluation_file(parent)),
        "champion_evaluation": workspace.relative(workspace.champion_evaluation_file(parent)),
    }


def _with_code(values: Any) -> Any:
    """An older file's values with the code that its stages had: all of it built in."""
    if lists_code(values):
        return values
    listed = {"code": _built_in(ONCE), **values}
    for section, stages in (("iterations", TRAINED), ("evaluations", EVALUATED)):
        entries = values.get(section)
        if isinstance(entries, dict):
            listed[section] = {
                key: entry | {"code": _built_in(stages)} if isinstance(entry, dict) else entry
                for key, entry in entries.items()
            }
    return listed


def write_listing(workspace: Workspace, listing: Listing) -> None:
    """Replace the file, in the form that DVC reads as it was meant."""
    versioned = {"schema_version": LISTING_VERSION, **listing}
    write_text(workspace.iterations_file, _HEADER + _as_yaml(versioned))


def _as_yaml(values: Mapping[str, Any], indent: str = "") -> str:
    """Block YAML in which every key that is not a plain word, and every value, is quoted.

    A YAML library decides by its own version: PyYAML (1.1) leaves `008` bare, since to it that
    is text, and DVC (1.2) then reads the number 8.
    """
    lines = []
    for key, value in values.items():
        name = key if key.isidentifier() else json.dumps(key)
        if not isinstance(value, dict):
            lines.append(f"{indent}{name}: {json.dumps(value)}\n")
        elif not value:
            lines.append(f"{indent}{name}: {{}}\n")
        else:
            lines.append(f"{indent}{name}:\n{_as_yaml(value, indent + '  ')}")
    return "".join(lines)
