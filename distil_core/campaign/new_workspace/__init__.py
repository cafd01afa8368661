"""A workspace apart from DistIL's source: the files that `distil init` writes.

A workspace is the root of a git repository with DVC. These files make one, whatever lies there
already: code of the user's own may lie beside them.
"""

import re
from importlib import resources
from pathlib import Path

from distil_core.campaign.extends import DEFAULT_PRESET, presets, read_settings
from distil_core.campaign.listing import empty_listing, write_listing
from distil_core.campaign.load import find_settings_file, load_params_file
from distil_core.campaign.params_file import moved_settings
from distil_core.campaign.pipeline_file import pipeline_text
from distil_core.errors import ConfigError
from distil_core.files import write_text
from distil_core.source_code import link_sources
from distil_core.validation import nearest
from distil_core.workspace import Workspace

_PLOTS = ("lines_by_iteration.json", "scores_over_iterations.json", "offline.html")
_FILES = {
    ".dvcignore": "dvcignore",
    ".dvc/config": "dvc_config",
    ".dvc/.gitignore": "dvc_gitignore",
    **{f".dvc/plots/{name}": f"plots/{name}" for name in _PLOTS},
    "data/.gitignore": "data_gitignore",
    "prefect.toml": "prefect.toml",
    "prefect.yaml": "prefect.yaml",
}
_OURS = ("dvc.yaml", "dvc.lock", "params.yaml", "iterations.yaml", "iterations")
_GITIGNORE = ".gitignore"


def write_workspace(
    root: Path,
    preset: str = DEFAULT_PRESET,
    settings: Path | None = None,
    campaign: str | None = None,
) -> Workspace:
    """Write a workspace's files into the folder, which may be new.

    settings: a file that becomes params.yaml as it is; else it extends `preset`, and `campaign`,
    by default the folder's name, is the campaign's. Raises `ConfigError`, with nothing written,
    where the folder is a workspace already, or the settings cannot work.
    """
    workspace = Workspace(root)
    _require_no_workspace(workspace)
    text = (
        _params(preset, campaign or _name(root))
        if settings is None
        else _given(settings, workspace.params_file)
    )
    write_missing_files(workspace)
    _write(root / _GITIGNORE, _ignored(root / _GITIGNORE))
    write_listing(workspace, empty_listing())
    link_sources(workspace, [])
    _write(root / "dvc.yaml", pipeline_text())
    # The last one, since with it the folder is a workspace.
    _write(workspace.params_file, text)
    return workspace


def write_missing_files(workspace: Workspace) -> None:
    """Write what DVC and Prefect read besides the pipeline, where it is not there yet."""
    for name, template in _FILES.items():
        if not (workspace.root / name).exists():
            _write(workspace.root / name, _template(template))
    config = workspace.root / ".dvc/config"
    text = config.read_text(encoding="utf-8")
    if "[plots]" not in text:
        _write(config, f"{text.rstrip()}\n[plots]\n    html_template = plots/offline.html\n")


def _require_no_workspace(workspace: Workspace) -> None:
    root = workspace.root
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root} is no folder: name a new one, or an existing folder")
    present = [name for name in _OURS if (root / name).exists()]
    if present:
        raise ConfigError(
            f"{root} has {', '.join(present)} already, so nothing was written. In a workspace, "
            "`distil restart --params NAME` takes other settings; a pipeline of your own needs a "
            "folder of its own, or add its stages to the workspace's dvc.yaml"
        )


def _params(preset: str, campaign: str) -> str:
    known = presets()
    if preset not in known:
        raise ConfigError(
            f"no preset {preset!r}{nearest(preset, list(known))}. A file of settings is given as "
            "--from FILE"
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", campaign):
        raise ConfigError(
            f"campaign: expected small letters, digits and dashes, found {campaign!r}; give one "
            "with --campaign NAME"
        )
    values = read_settings(known[preset], f"preset {preset}").values
    return _template("params.yaml").format(
        preset=preset,
        campaign=campaign,
        seed=values["seed"],
        num_iterations=values["num_iterations"],
    )


def _given(settings: Path, target: Path) -> str:
    load_params_file(settings)
    return moved_settings(find_settings_file(settings), str(settings), target)


def _name(root: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-") or "campaign"


def _ignored(file: Path) -> str:
    """What git ignores there now, and what it has to ignore in a workspace."""
    present = file.read_text(encoding="utf-8") if file.exists() else ""
    missing = [line for line in _template("gitignore").splitlines() if line not in present.split()]
    separator = "" if not present or present.endswith("\n") else "\n"
    return present + separator + "".join(f"{line}\n" for line in missing)


def _template(name: str) -> str:
    return (resources.files(__name__) / "files" / name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
