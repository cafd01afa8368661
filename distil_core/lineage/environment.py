"""The environment of a record: code, libraries, processor and user."""

import getpass
import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from distil_core.lineage.git import git, git_or_none
from distil_core.workspace import Workspace

_LIBRARIES = ("torch", "transformers", "numpy", "pyarrow", "vllm", "dvc", "prefect", "mlflow")
_PACKAGES = ("distil_core", "distil_flows", "distil_tasks")
_DIGEST_LENGTH = 16
_CPU_FEATURES = ("avx2", "avx512f", "amx_tile", "asimd", "sve")


class Code(NamedTuple):
    """commit: '' before the first one. changed: whether the tree differs from it, apart from
    dvc.lock, which a campaign rewrites."""

    commit: str
    changed: bool


def code(workspace: Workspace) -> Code:
    """The code in the workspace. Raises `LineageError` outside a git repository, which lineage
    needs."""
    root = workspace.root
    commit = (git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD") or "").strip()
    changed = git(root, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock").strip()
    return Code(commit, bool(changed))


@cache
def package() -> str:
    """DistIL as this process has it: its version, and a digest of all of its files, which tells an
    edited or unreleased one from what was published. A clone and the wheel of the same code have
    the same."""
    files = {path: file for name in _PACKAGES for path, file in _files(name)}
    whole = hashlib.sha256()
    for path, file in sorted(files.items()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        whole.update(f"{path} {content}\n".encode())
    try:
        number = version("distil")
    except PackageNotFoundError:
        number = "not installed"
    return f"{number}, source {whole.hexdigest()[:_DIGEST_LENGTH]}"


def _files(package_name: str) -> Iterator[tuple[str, Path]]:
    """What the package consists of, by path from where it lies; behind links too, as the presets of
    a clone are."""
    spec = find_spec(package_name)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for folder, _, names in os.walk(place, followlinks=True):
            for name in names:
                file = Path(folder, name)
                # An editor's lock is a link to nowhere.
                if file.suffix != ".pyc" and file.is_file():
                    yield f"{package_name}/{file.relative_to(place).as_posix()}", file


def libraries() -> str:
    """This process's libraries with their versions. A stage that came from a cache or a remote may
    have run with others."""
    found = [f"python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def processor() -> str:
    """This machine's processor, with the features on which its results may depend."""
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    for line in (info.read_text() if info.exists() else "").splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    features = " ".join(name for name in _CPU_FEATURES if name in flags)
    model = fields.get("model name") or platform.processor() or platform.machine()
    return f"{model} ({sys.platform}{' ' + features if features else ''})"


def user() -> str | None:
    """The user who records; None for a user without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
