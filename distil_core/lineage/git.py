"""Run git as a command: its answers as text, its refusals as `LineageError`s.

Only this module runs git, so that no variable of a surrounding git command leads it to another
repository.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distil_core.errors import LineageError

# `git rev-parse --local-env-vars`: a hook, `git rebase --exec` or a git alias sets these for its
# children, and they would lead git to the repository it runs in. Not the two through which
# configuration comes (GIT_CONFIG_COUNT, GIT_CONFIG_PARAMETERS): a container's safe.directory does.
_OF_ANOTHER_REPOSITORY = frozenset(
    f"GIT_{name}"
    for name in (
        "ALTERNATE_OBJECT_DIRECTORIES",
        "COMMON_DIR",
        "CONFIG",
        "DIR",
        "GRAFT_FILE",
        "IMPLICIT_WORK_TREE",
        "INDEX_FILE",
        "INTERNAL_SUPER_PREFIX",
        "NAMESPACE",
        "NO_REPLACE_OBJECTS",
        "OBJECT_DIRECTORY",
        "PREFIX",
        "QUARANTINE_PATH",
        "REPLACE_REF_BASE",
        "SHALLOW_FILE",
        "WORK_TREE",
    )
)


def git(
    root: Path,
    *arguments: str,
    text_input: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """What git prints for `arguments` in the repository at `root`, unchanged.

    text_input: standard input. variables: added to the environment. File names that are not UTF-8
    are passed as surrogates. Raises `LineageError` with git's own message.
    """
    done = _run(root, arguments, text_input, variables or {})
    if done.returncode:
        raise _refused(root, arguments, done.stderr.strip() or done.stdout)
    return done.stdout


def git_or_none(root: Path, *arguments: str) -> str | None:
    """Like `git`; None where git has nothing to name (with `--quiet` it fails without a
    message)."""
    done = _run(root, arguments, None, {})
    if done.returncode and done.stderr.strip():
        raise _refused(root, arguments, done.stderr.strip())
    return None if done.returncode else done.stdout


def file_in_commit(root: Path, commit: str, name: str) -> str | None:
    """The text of a file in the commit, by its name below `root`; None where the commit is not here
    or has no such file."""
    blob = git_or_none(root, "rev-parse", "--verify", "--quiet", f"{commit}:./{name}")
    return None if blob is None else git(root, "cat-file", "blob", blob.strip())


def own_environment() -> dict[str, str]:
    """This process's environment without the variables that lead git to another repository, for
    commands that run git or DVC in a workspace."""
    return {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_REPOSITORY}


def start_repository(root: Path, message: str) -> bool:
    """Have `root` be the root of a git repository that knows what lies there.

    A new one gets a first commit where git knows who commits; in one that is there already, or
    where it does not, everything is only staged. Returns whether it was committed.
    """
    top_level = _top_level(root)
    is_new = top_level != root.resolve()
    if is_new:
        git(root, "init", "--quiet")
    git(root, "add", "--", ".")
    if not is_new or git_or_none(root, "config", "user.email") is None:
        return False
    git(root, "commit", "--quiet", "--message", message)
    return True


def _top_level(root: Path) -> Path | None:
    done = _run(root, ("rev-parse", "--show-toplevel"), None, {})
    return None if done.returncode else Path(done.stdout.rstrip("\n"))


@contextmanager
def no_other_repository() -> Iterator[None]:
    """Remove these variables in the block, for libraries that run git or read them in this
    process."""
    hidden = {name: os.environ.pop(name) for name in _OF_ANOTHER_REPOSITORY & os.environ.keys()}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _refused(root: Path, arguments: tuple[str, ...], message: str) -> LineageError:
    text = f"`git {' '.join(arguments)}` failed in {root}: {message}"
    if "not a git repository" in message:
        text += (
            ". Lineage needs the workspace in a git repository: `git init && dvc init`, or clone "
            "one."
        )
    return LineageError(text)


def _run(
    root: Path, arguments: tuple[str, ...], text_input: str | None, variables: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=own_environment() | {"LC_ALL": "C.UTF-8"} | dict(variables),
            input=text_input or "",
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError as error:
        if not root.is_dir():
            raise LineageError(f"no folder {root}, in which git was to look") from error
        raise LineageError("git is not installed, lineage needs it: install git") from error
