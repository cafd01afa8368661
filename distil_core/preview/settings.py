"""The settings that a preview tries: those of params.yaml, with changes written nowhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distil_core.campaign.extends import (
    EXTENDS,
    extended_file,
    presets,
    read_mapping,
    read_settings,
)
from distil_core.campaign.load import find_settings_file, validated_params
from distil_core.campaign.overrides import overridden, parse_overrides
from distil_core.config.models import ContextParams, Params
from distil_core.errors import ConfigError
from distil_core.validation import nearest
from distil_core.workspace import Workspace

_YAML = (".yaml", ".yml")


def previewed_params(
    workspace: Workspace,
    params_file: Path | None = None,
    template_file: Path | None = None,
    overrides: Sequence[str] = (),
) -> Params:
    """params.yaml as it is now, or another file or preset, with the template and the settings given
    in place of its own. Raises `ConfigError`.

    template_file: see `template_settings`. overrides: such as `sample.temperature=0.7`.
    """
    workspace.make_code_importable()
    path = find_settings_file(params_file) if params_file else workspace.params_file
    shown = str(params_file) if params_file else path.name
    resolved = read_settings(path, shown)
    if template_file is not None:
        resolved = overridden(resolved, {"context": template_settings(template_file)})
    if overrides:
        resolved = overridden(resolved, parse_overrides(overrides))
    return validated_params(resolved, shown)


def template_settings(file: Path) -> dict[str, Any]:
    """Settings of `context` in a file: YAML with some of them (student_template, expert_template,
    ..), or else the expert's template as it is, without the newline at the file's end. Raises
    `ConfigError`."""
    if file.suffix in _YAML:
        values = read_mapping(file, str(file))
        known = list(ContextParams.model_fields)
        for name in values:
            if name not in known:
                raise ConfigError(
                    f"{file}: {name} is no setting of `context`{nearest(str(name), known)}"
                )
        return values
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the template in {file} cannot be read: {error}") from error
    return {"expert_template": text.removesuffix("\n")}


def settings_files(
    workspace: Workspace, params_file: Path | None, template_file: Path | None
) -> list[Path]:
    """The files whose change makes it worth to try again, those that params.yaml extends too, as
    far as they can be read."""
    file = workspace.params_file
    if params_file is not None:
        file = presets().get(str(params_file), params_file)
    found = [file]
    try:
        while (name := read_mapping(found[-1], found[-1].name).get(EXTENDS)) is not None:
            extended, _ = extended_file(name, found[-1], found[-1].name)
            if extended in found:
                break
            found.append(extended)
    except ConfigError:
        pass  # The preview itself says what is wrong.
    return [*found, *([template_file] if template_file else [])]
