"""Workspaces for several seeds of one campaign, made from the current one.

They lie in `seeds/seed-N` of the workspace: beside its data rather than hidden below `.distil/`,
since each is a workspace like any other, in which `dvc repro` or `distil report` go on. Git and DVC
of the workspace around them do not look into them. All share one DVC cache, so that what two of
them have alike is stored once, and a stage that was run before with the same settings and inputs
is not run again.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distil_core.campaign.differences import Change, changes, described
from distil_core.campaign.extends import read_mapping
from distil_core.campaign.listing import empty_listing, write_listing
from distil_core.campaign.load import load_params
from distil_core.campaign.new_workspace import write_missing_files
from distil_core.config.models import Params
from distil_core.errors import ConfigError
from distil_core.files import atomic_path, write_text
from distil_core.lineage.dvc.config import cache_config
from distil_core.lineage.git import git, start_repository
from distil_core.source_code import package_places
from distil_core.validation import validate
from distil_core.workspace import Workspace
from distil_core.yaml_text import dump_yaml

SEEDS_FOLDER = "seeds"
_MADE_ANEW = ("params.yaml", "iterations.yaml", "dvc.lock", "iterations/", "data/", "code/")
_DATA_FILES = ("data/.gitignore",)
_OWN_PACKAGES = ("distil_core", "distil_flows", "distil_tasks")


@dataclass(frozen=True)
class SeedWorkspace:
    """is_new: whether it was made now."""

    seed: int
    workspace: Workspace
    is_new: bool

    @property
    def log(self) -> Path:
        """What its runs said, the last one at the end."""
        return self.workspace.root / ".distil" / "run.log"


def seeds_folder(workspace: Workspace) -> Path:
    """Where the seeds' workspaces lie."""
    return workspace.root / SEEDS_FOLDER


def chosen_seeds(params: Params, text: str) -> list[int]:
    """The seeds that `--seeds` asks for: `3` for as many from the settings' own on, or a list such
    as `4,7,9`. Raises `ConfigError` for what is neither."""
    words = text.split(",")
    if not all(word.strip().isdigit() for word in words):
        raise ConfigError(f"--seeds: expected a number such as 3, or seeds 4,7,9; found {text!r}")
    numbers = [int(word) for word in words]
    if len(numbers) == 1:
        if numbers[0] < 1:
            raise ConfigError("--seeds: expected at least one")
        return [params.seed + offset for offset in range(numbers[0])]
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"--seeds: {text} names a seed twice")
    return numbers


def make_seed_workspaces(workspace: Workspace, text: str) -> list[SeedWorkspace]:
    """The seeds' workspaces, made where they are missing, with the settings that `params.yaml` has
    now and nothing run.

    text: as for `chosen_seeds`. Raises `ConfigError` where one has run with other settings: it
    keeps them, and results of both would be mixed.
    """
    params = load_params(workspace)
    seeds = chosen_seeds(params, text)
    folder = seeds_folder(workspace)
    folder.mkdir(exist_ok=True)
    for name in (".gitignore", ".dvcignore"):
        if not (folder / name).exists():
            write_text(folder / name, "# Each of these is a workspace of its own.\n*\n")
    wanted = {seed: _settings(params, seed) for seed in seeds}
    places = {seed: Workspace(folder / f"seed-{seed}") for seed in seeds}
    for seed, place in places.items():
        if place.params_file.exists() and _differing(place, wanted[seed]):
            _forget(place, wanted[seed])
    return [
        SeedWorkspace(seed, place, _make(workspace, place, wanted[seed]))
        for seed, place in places.items()
    ]


def _settings(params: Params, seed: int) -> dict[str, Any]:
    """All of them written out, so that a file that params.yaml extends may change later."""
    return params.model_dump(mode="json") | {"seed": seed}


def _differing(place: Workspace, wanted: dict[str, Any]) -> list[Change]:
    values = read_mapping(place.params_file, str(place.params_file))
    found = validate(Params, values, str(place.params_file)).model_dump(mode="json")
    return changes(found, wanted)


def _forget(place: Workspace, wanted: dict[str, Any]) -> None:
    """Remove one that was made with other settings, where nothing has run in it."""
    if (place.root / "dvc.lock").exists():
        raise ConfigError(
            f"{place.root} was made with other settings than params.yaml has now "
            f"({described(_differing(place, wanted))}), and what ran there ran with these. To run "
            f"the settings of now, move {place.root.parent} away (or remove it); to go on with "
            "those from before, put them back into params.yaml"
        )
    shutil.rmtree(place.root)


def _make(workspace: Workspace, place: Workspace, settings: dict[str, Any]) -> bool:
    """Whether it was made now: whole, or not at all."""
    if place.params_file.exists():
        return False
    with atomic_path(place.root) as draft:
        draft.mkdir()
        for name in _files_to_copy(workspace):
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(workspace.root / name, draft / name, follow_symlinks=False)
        _link_files_of_settings(workspace, draft, settings)
        _share_cache(workspace, draft)
        write_missing_files(Workspace(draft))
        write_listing(Workspace(draft), empty_listing())
        write_text(draft / "params.yaml", dump_yaml(settings))
        message = f"Seed {settings['seed']} of the campaign in {workspace.root.name}"
        start_repository(draft, message)
    return True


def _files_to_copy(workspace: Workspace) -> Iterator[str]:
    """What git has or would have of the workspace: its pipeline, ignore files, settings of other
    programs, and the user's own components; not the campaign, which is to be made anew, nor
    DistIL's own code, which is imported from where it is installed."""
    listed = git(
        workspace.root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"
    ).split("\0")
    code = _own_code(workspace)
    for name in dict.fromkeys(filter(None, listed)):
        path = workspace.root / name
        if name.startswith(_MADE_ANEW) and name not in _DATA_FILES:
            continue
        if name.startswith(f"{SEEDS_FOLDER}/") or not (path.is_file() or path.is_symlink()):
            continue
        if any(path.resolve().is_relative_to(place) for place in code):
            continue
        yield name


def _own_code(workspace: Workspace) -> Sequence[Path]:
    """Folders of DistIL's packages inside the workspace, where it is a clone of the source."""
    root = workspace.root.resolve()
    places = [place / name for name in _OWN_PACKAGES for place in package_places(name)]
    return [place.resolve() for place in places if place.resolve().is_relative_to(root)]


def _link_files_of_settings(workspace: Workspace, root: Path, settings: dict[str, Any]) -> None:
    """Links in `root` to what settings name by a path from the workspace's root and git does not
    keep, such as a checkpoint or a large file of problems."""
    for text in _texts(settings):
        if not text or "\0" in text or Path(text).is_absolute():
            continue
        named, target = workspace.root / text, root / text
        try:
            is_missing = named.exists() and not os.path.lexists(target)
        except OSError:
            # Longer than any file's name: a template.
            continue
        if is_missing and not root.resolve().is_relative_to(named.resolve()):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(named.resolve(), named.is_dir())


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        yield from _texts([*values, *values.values()])
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value)


def _share_cache(workspace: Workspace, root: Path) -> None:
    """Have DVC keep the files of both in one place, and link them into either alike."""
    shared = cache_config(workspace)
    types = shared.get("type") or []
    lines = [f"    dir = {shared['dir']}\n"]
    if types:
        lines.append(f"    type = {types if isinstance(types, str) else ','.join(types)}\n")
    write_text(root / ".dvc" / "config.local", f"[cache]\n{''.join(lines)}")
