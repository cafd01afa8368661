"""Git as a command: its answers as text, its refusals as `LineageError`s."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from distil_core.errors import LineageError

# A hook of another repository sets these for its children; they would lead git there.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")


def git(
    root: Path,
    *arguments: str,
    text_input: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """What git prints for `arguments` in the repository at `root`, as it is.

    text_input: for its standard input. variables: added to its environment. File names that are
    no UTF-8 come and go as surrogates. Raises `LineageError` with git's own message.
    """
    done = _run(root, arguments, text_input, variables or {})
    if done.returncode:
        raise LineageError(
            f"`git {' '.join(arguments)}` failed in {root}: {done.stderr.strip() or done.stdout}"
        )
    return done.stdout


def git_or_none(root: Path, *arguments: str) -> str | None:
    """The same, None where git has nothing to name (with `--quiet` it fails and says nothing)."""
    done = _run(root, arguments, None, {})
    if done.returncode and done.stderr.strip():
        raise LineageError(f"`git {' '.join(arguments)}` failed in {root}: {done.stderr.strip()}")
    return None if done.returncode else done.stdout


def _run(
    root: Path, arguments: tuple[str, ...], text_input: str | None, variables: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=inherited | {"LC_ALL": "C.UTF-8"} | dict(variables),
            input=text_input or "",
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError as error:
        raise LineageError("git is not installed, lineage needs it: install git") from error
