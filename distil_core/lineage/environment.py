"""The environment of a record: code, libraries, processor and user."""

import getpass
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from distil_core.lineage.git import git, git_or_none
from distil_core.workspace import Workspace

_LIBRARIES = ("torch", "transformers", "numpy", "pyarrow", "vllm", "dvc", "prefect", "mlflow")
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
