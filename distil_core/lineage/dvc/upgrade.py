"""A workspace whose `dvc.yaml` is of another version of DistIL: found, and brought up to this one.

What is recorded stays recorded. A stage that is only called otherwise is not stale by that.
"""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

from distil_core.campaign.new_workspace import write_missing_files
from distil_core.campaign.pipeline_file import pipeline_text
from distil_core.errors import LineageError
from distil_core.files import write_text
from distil_core.lineage.dvc.lock import lock_file, read_entries, with_entry
from distil_core.lineage.dvc.session import open_repo
from distil_core.pipeline import STAGES, stage_named
from distil_core.workspace import Workspace
from distil_core.yaml_text import parse_yaml

_NAMES = tuple(stage.name for stage in STAGES)
_WIDTH = 1000


class Upgrade(NamedTuple):
    """stages: those of dvc.yaml that were written anew. renamed: recorded stages, as DVC addresses
    them, whose command is called otherwise now."""

    stages: list[str]
    renamed: list[str]


def outdated_stages(workspace: Workspace) -> list[str]:
    """The stages of this version that `dvc.yaml` lacks, or defines without something that they
    have. What a user added to them does no harm."""
    return _outdated(_stages(workspace))


def _outdated(present: Mapping[str, Any]) -> list[str]:
    ours = parse_yaml(pipeline_text())["stages"]
    return [name for name in _NAMES if not _contains(present.get(name), ours[name])]


def require_present_pipeline(workspace: Workspace) -> None:
    """Raise `LineageError` where `dvc.yaml` is of another version, before anything is run by it."""
    outdated = outdated_stages(workspace)
    if outdated:
        raise LineageError(
            f"dvc.yaml is not of this version of DistIL: {', '.join(outdated)} would be run or "
            "recorded otherwise. `distil upgrade` writes these stages anew; stages of your own, "
            "and what is recorded, stay"
        )


def upgrade(workspace: Workspace) -> Upgrade:
    """Write the outdated stages of `dvc.yaml` anew, and the commands of what `dvc.lock` recorded.

    Raises `LineageError` where the file cannot be read, or another process works on the workspace.
    """
    before = _stages(workspace)
    outdated = _outdated(before)
    if not outdated:
        return Upgrade([], [])
    path = workspace.root / "dvc.yaml"
    with open_repo(workspace, "dvc.yaml"):
        text = lock_file(workspace).read_text("utf-8") if lock_file(workspace).exists() else ""
        renamed = []
        for address, entry in read_entries(workspace).items():
            name, _, key = address.partition("@")
            former = _command(before.get(name), key) if name in outdated else None
            if former is None or entry["cmd"] != former:
                continue
            command = stage_named(name).command(int(key or 0))
            if command != former:
                text = with_entry(text, address, entry | {"cmd": command})
                renamed.append(address)
        # The pipeline comes last: as long as it is the old one, all of this is done again.
        if renamed:
            write_text(lock_file(workspace), text)
        write_missing_files(workspace)
        write_text(path, _merged(path.read_text(encoding="utf-8"), outdated))
    return Upgrade(outdated, renamed)


def _stages(workspace: Workspace) -> dict[str, Any]:
    import yaml

    path = workspace.root / "dvc.yaml"
    remedy = "restore it with `git checkout dvc.yaml`"
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LineageError(
            f"no dvc.yaml in {workspace.root}: run in a DistIL workspace, which "
            f"`distil init` makes, or {remedy}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LineageError(f"dvc.yaml is not valid YAML: {error}; {remedy}") from error
    stages = values.get("stages") if isinstance(values, dict) else None
    if not isinstance(stages, dict):
        raise LineageError(f"dvc.yaml: expected a mapping with `stages`; {remedy}")
    return stages


def _contains(present: Any, wanted: Any) -> bool:
    """Whether all of `wanted` is in `present`: keys of mappings, items of lists, else the same."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(
            key == "desc" or _contains(present.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(present, list) and all(
            any(_contains(item, each) for item in present) for each in wanted
        )
    return bool(present == wanted)


def _command(stage: Any, key: str) -> str | None:
    """What a stage of dvc.yaml runs for the iteration of this key; None where it cannot be told."""
    definition = stage.get("do", stage) if isinstance(stage, Mapping) else {}
    command = definition.get("cmd") if isinstance(definition, Mapping) else None
    return command.replace("${key}", key) if isinstance(command, str) else None


def _merged(text: str, outdated: list[str]) -> str:
    """The file with these stages written anew; the whole file where nothing in it is a user's."""
    from ruamel.yaml import YAML

    present = parse_yaml(text)
    own_sections = {"vars", "stages", "metrics", "plots"}
    if set(present) <= own_sections and set(present["stages"]) <= set(_NAMES):
        return pipeline_text()
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    merged, ours = yaml.load(text), yaml.load(pipeline_text())
    for name in outdated:
        merged["stages"][name] = ours["stages"][name]
    for section in ("metrics", "plots"):
        known = [_name(item) for item in ours[section]]
        others = [item for item in merged.get(section, []) if _name(item) not in known]
        merged[section] = [*ours[section], *others]
    written = io.StringIO()
    yaml.dump(merged, written)
    return written.getvalue()


def _name(item: Any) -> str:
    """Of a plot or a file of metrics, which may have settings of its own below its name."""
    return str(next(iter(item)) if isinstance(item, Mapping) else item)
