"""What made a record: code, libraries and machine, as MLflow tags."""

import getpass
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from distil_core.errors import LineageError
from distil_core.workspace import Workspace

_LIBRARIES = ("torch", "transformers", "numpy", "pyarrow", "vllm", "dvc", "prefect", "mlflow")
_CPU_FEATURES = ("avx2", "avx512f", "amx_tile", "asimd", "sve")


def git_tags(workspace: Workspace) -> dict[str, str]:
    """Commit and whether the tree differs from it (dvc.lock aside: a campaign rewrites it).

    Raises `LineageError` outside a git repository: lineage needs one.
    """
    commit = _git(workspace, "rev-parse", "--verify", "--quiet", "HEAD", missing_ok=True)
    changed = _git(workspace, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
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


def _git(workspace: Workspace, *arguments: str, missing_ok: bool = False) -> str:
    try:
        result = subprocess.run(
            ["git", "-C", str(workspace.root), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise LineageError("git is not installed, lineage needs it: install git") from error
    if result.returncode and not (missing_ok and not result.stderr):
        raise LineageError(
            f"git failed in {workspace.root}: {result.stderr.strip()}. Lineage needs the "
            "workspace in a git repository: `git init && dvc init`, or clone one."
        )
    return result.stdout.strip()


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
