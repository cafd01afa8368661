"""Changes of `params.yaml` by a command: another file takes its place, single settings are set.

What is frozen and what `params.yaml` says stay one thing, so that a later `distil restart` or
`distil extend` goes on from what was set.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from distil_core.campaign.extends import (
    EXTENDS,
    extended_file,
    presets,
    read_mapping,
    read_settings,
)
from distil_core.campaign.load import find_settings_file, load_params, validated_params
from distil_core.campaign.overrides import edited, overridden, parse_overrides
from distil_core.config.models import Params
from distil_core.errors import ConfigError
from distil_core.files import write_bytes
from distil_core.workspace import Workspace
from distil_core.yaml_text import parse_yaml


def prepare(
    workspace: Workspace, params_file: Path | None, overrides: Sequence[str]
) -> tuple[Params, bytes | None]:
    """The settings that a command is about, and what `params.yaml` is to hold; None where it stays.

    params_file: takes the place of `params.yaml`. overrides: settings such as
    `train.learning_rate=1e-5`. Raises `ConfigError`, with nothing changed.
    """
    if params_file is None and not overrides:
        return load_params(workspace), None
    workspace.make_code_importable()
    path = find_settings_file(params_file) if params_file else workspace.params_file
    shown = str(params_file) if params_file else path.name
    resolved = read_settings(path, shown)
    text = (
        moved_settings(path, shown, workspace.params_file)
        if params_file
        else path.read_text("utf-8")
    )
    if not overrides:
        return validated_params(resolved, shown), text.encode()
    overlay = parse_overrides(overrides)
    changed = overridden(resolved, overlay)
    params = validated_params(changed, shown)
    text = edited(text, resolved, overlay)
    _require_same(text, workspace, params)
    return params, text.encode()


def replace(workspace: Workspace, content: bytes) -> None:
    """Give `params.yaml` this content. The former one is kept (`replaced_params_file`)."""
    former = workspace.params_file.read_bytes() if workspace.params_file.exists() else content
    if former != content:
        write_bytes(replaced_params_file(workspace, former), former)
    write_bytes(workspace.params_file, content)


def replaced_params_file(workspace: Workspace, content: bytes) -> Path:
    """Where a `params.yaml` of this content is kept when another takes its place."""
    digest = hashlib.blake2b(content, digest_size=4).hexdigest()
    return workspace.scratch_dir / "replaced-params" / f"{digest}.yaml"


def moved_settings(path: Path, shown: str, target: Path) -> str:
    """The file's text for a place at `target`: a file that it extends is named from there."""
    text = path.read_bytes().decode("utf-8")
    name = read_mapping(path, shown).get(EXTENDS)
    if name is None or name in presets():
        return text
    extended, _ = extended_file(name, path, shown)
    from_target = os.path.relpath(extended, target.parent)
    from_target = from_target if "/" in from_target else f"./{from_target}"
    line = re.compile(rf"^{EXTENDS}\s*:[^\n#]*", re.MULTILINE)
    moved = line.sub(lambda _: f'{EXTENDS}: "{from_target}" ', text, count=1)
    if parse_yaml(moved).get(EXTENDS) != from_target:
        raise ConfigError(f"{shown}: write `{EXTENDS}: {name}` on a line of its own")
    return moved


def _require_same(text: str, workspace: Workspace, params: Params) -> None:
    """The edited file means what was asked for: that is frozen, and this is what is read next."""
    file = workspace.params_file
    again = read_settings(file, file.name, text)
    if validated_params(again, file.name) != params:
        raise ConfigError(
            "params.yaml cannot be edited so that it means what --set asks for: change the "
            "settings in the file itself"
        )
