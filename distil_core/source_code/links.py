"""`code/` in a workspace: links to the source files of users' components, for DVC to watch.

A stage that uses components of a user's own depends on a folder named after their modules, such as
`code/my_lab.focal_objective`. DVC follows the links in it, so that an edit makes the stage stale. A
link to a file of the workspace is relative, and git keeps it; one to a file elsewhere (an installed
package) is absolute, and ignored. Stages that use no such component depend on one file that never
changes.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from distil_core.files import write_text
from distil_core.source_code.closure import import_closure, path_in_package
from distil_core.source_code.loaded import note_sources
from distil_core.workspace import Workspace

CODE_FOLDER = "code"
BUILT_IN_FILE = "code/built_in.txt"

_BUILT_IN_TEXT = (
    "Stages that use no component of a user's own depend on this file, which never changes.\n"
    "The code of built-in components is known by the digests in iterations/ (stage_versions).\n"
)
_SEPARATOR = "+"
_INSTALLED = {"site-packages", "dist-packages"}


def folder_for(modules: Iterable[str]) -> str:
    """What a stage depends on that uses these modules of a user's, from the workspace's root."""
    names = sorted(set(modules))
    return f"{CODE_FOLDER}/{_SEPARATOR.join(names)}" if names else BUILT_IN_FILE


def linked_modules(dependency: str) -> list[str]:
    """The modules of a dependency that `folder_for` gave; none of what is no such one."""
    folder, _, names = dependency.partition("/")
    if folder != CODE_FOLDER or dependency == BUILT_IN_FILE:
        return []
    return names.split(_SEPARATOR)


def link_sources(workspace: Workspace, dependencies: Iterable[str]) -> list[str]:
    """Have `code/` hold what `dependencies` (of `folder_for`) name, as the sources are now, and
    nothing else; returns the modules that are nowhere to be found, whose links are gone."""
    root = workspace.root / CODE_FOLDER
    missing: dict[str, None] = {}
    wanted: dict[Path, str] = {}
    ignored: set[str] = set()
    for dependency in sorted(set(dependencies)):
        for module in linked_modules(dependency):
            files = import_closure(module, [module.partition(".")[0]])
            if module not in files:
                missing[module] = None
                continue
            note_sources(files)
            folder = workspace.root / dependency
            for name, file in files.items():
                link = folder / path_in_package(name, file)
                is_inside = _lies_inside(workspace, file)
                target = os.path.relpath(file, link.parent) if is_inside else str(file)
                wanted[link] = target
                if not is_inside:
                    ignored.add(f"/{link.relative_to(root).as_posix()}\n")
    _remove_others(root, wanted)
    for link, target in wanted.items():
        _link(link, target)
    _write_if_other(workspace.root / BUILT_IN_FILE, _BUILT_IN_TEXT)
    _write_gitignore(root / ".gitignore", ignored)
    return list(missing)


def _lies_inside(workspace: Workspace, file: Path) -> bool:
    """Whether the file is part of the workspace's own code, rather than of an environment that is
    installed there."""
    if not file.is_relative_to(workspace.root):
        return False
    parts = file.relative_to(workspace.root).parts
    return not any(part.startswith(".") or part in _INSTALLED for part in parts)


def _remove_others(root: Path, wanted: Mapping[Path, str]) -> None:
    """Links to what is imported no more, and what a checkout of a snapshot put in their place."""
    if not root.is_dir():
        return
    kept = {root / PurePosixPath(BUILT_IN_FILE).name, root / ".gitignore"}
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            path = Path(folder, name)
            if path not in wanted and path not in kept:
                path.unlink(missing_ok=True)
        for name in folders:
            inner = Path(folder, name)
            if inner.is_symlink():
                inner.unlink()
            elif not any(inner.iterdir()):
                inner.rmdir()


def _link(link: Path, target: str) -> None:
    if link.is_symlink() and os.readlink(link) == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def _write_gitignore(path: Path, ignored: set[str]) -> None:
    if ignored:
        head = "# Links to code that lies outside of this workspace.\n"
        _write_if_other(path, head + "".join(sorted(ignored)))
    else:
        path.unlink(missing_ok=True)


def _write_if_other(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
