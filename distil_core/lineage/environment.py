"""What made a record: code, libraries and machine, as MLflow tags."""

import getpass
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from distil_core.lineage.git import git, git_or_none
from distil_core.workspace import Workspace

_LIBRARIES = ("torch", "transformers", "numpy", "pyarrow", "vllm", "dvc", "prefect", "mlflow")
_CPU_FEATURES = ("avx2", "avx512f", "amx_tile", "asimd", "sve")


def git_tags(workspace: Workspace) -> dict[str, str]:
    """Commit and whether the tree differs from it (dvc.lock aside: a campaign rewrites it).

    Raises `LineageError` outside a git repository: lineage needs one.
    """
    root = workspace.root
    commit = (git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD") or "").strip()
    changed = git(root, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock").strip()
    tags = {"distil.git_dirty": "true" if changed else "false"}
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "distil.git_commit": commit}
    return tags


def recorder_tags() -> dict[str, str]:
    """Libraries and processor of this process. A stage that came from a cache or a remote may
    have run with others."""
    found = [f"python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return {"distil.recorder.libraries": ", ".join(found), "distil.recorder.cpu": _cpu()}


def user_tags() -> dict[str, str]:
    """Who records; none for a user without a name, as containers may have."""
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):
        return {}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    for line in (info.read_text() if info.exists() else "").splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    features = " ".join(name for name in _CPU_FEATURES if name in flags)
    model = fields.get("model name") or platform.processor() or platform.machine()
    return f"{model} ({sys.platform}{' ' + features if features else ''})"
