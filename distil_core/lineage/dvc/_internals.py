"""All that is used of DVC beyond its documented API, each call with the behaviour it rests on.

DVC documents `dvc.api`, which reads data and parameters, and its command line; neither runs a stage
in this process. `tests/lineage/dvc/test_dvc_internals.py` has a canary for each function here.
pyproject.toml bounds DVC to the minor version against which they were written.

DVC is imported when a function is called: it takes half a second.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from dvc.repo import Repo as Repo  # noqa: PLC0414
    from dvc.stage import PipelineStage as PipelineStage  # noqa: PLC0414

Refusal = Literal["busy", "no stage", "no pipeline", "ignored by git", "no git"]
"""Why DVC refused, of the reasons that a user can do something about."""


def quiet() -> None:
    """Show only DVC's warnings: no notes, no progress bars. Rests on the names of DVC's loggers,
    and on its progress bars being shown only where the second one is enabled."""
    logging.getLogger("dvc").setLevel(logging.WARNING)
    logging.getLogger("dvc.progress").setLevel(logging.CRITICAL)


# Text


def dumps_yaml(contents: Mapping[str, Any]) -> str:
    """YAML as DVC writes it, so that a `dvc.lock` assembled from such pieces has DVC's bytes."""
    from dvc.utils.serialize import dumps_yaml as dumps

    return str(dumps(contents))


def parse_yaml(text: str, name: str) -> Any:
    """YAML as DVC reads settings: YAML 1.2, where `1e-05` is a number and `no` is a word."""
    from dvc.utils.serialize import parse_yaml as parse

    return parse(text, name)


def parse_yaml_for_update(text: str, name: str) -> Any:
    """Mappings that `dumps_yaml` gives back in the same order, with their comments."""
    from dvc.utils.serialize import parse_yaml_for_update as parse

    return parse(text, name)


# Configuration


def read_config(folder: Path) -> Mapping[str, Any]:
    """The effective settings of the repository with this `.dvc` folder: of the system, the user,
    the repository, and its local file. `core`, `remote` and `cache` are always there. A missing
    folder has no settings of its own. Raises `config_error`."""
    from dvc.config import Config

    return cast("Mapping[str, Any]", Config(str(folder)))


def read_committed_config(folder: Path) -> Mapping[str, Any]:
    """The settings in `.dvc/config` alone, addresses unchanged. Raises `config_error`."""
    from dvc.config import Config

    return cast("Mapping[str, Any]", Config(str(folder)).load_file(str(folder / "config")))


def config_error() -> type[Exception]:
    """The exception class that DVC raises where its configuration cannot be read."""
    from dvc.config import ConfigError

    return ConfigError


# A repository


def open_repo(root: Path, config: Mapping[str, Any] | None = None) -> "Repo":
    """A context manager that closes the repository. config: takes precedence over the files'
    settings and is not written anywhere."""
    from dvc.repo import Repo as DvcRepo

    return DvcRepo(str(root), config=None if config is None else dict(config))


def push(repo: "Repo", addresses: list[str]) -> int:
    """Send the outputs of these stages and of all they came from; returns how many files the remote
    lacked."""
    return int(repo.push(targets=addresses, with_deps=True))


def checkout(repo: "Repo", paths: list[str]) -> bool:
    """Restore these outputs to their paths, replacing what is there. False where the cache lacks
    one, which DVC reports after trying the others."""
    from dvc.exceptions import CheckoutError

    try:
        repo.checkout(targets=paths, force=True)
    except CheckoutError:
        return False
    return True


def pull(repo: "Repo", paths: list[str]) -> None:
    """Restore these outputs from the remote. Raises whatever the remote's library raises."""
    repo.pull(targets=paths, force=True)


def error() -> type[Exception]:
    """The base class of DVC's own errors."""
    from dvc.exceptions import DvcException

    return DvcException


def refusal(raised: Exception) -> Refusal | None:
    """The known reason that an error stands for."""
    from dvc.dvcfile import FileIsGitIgnored
    from dvc.scm import SCMError
    from dvc.stage.exceptions import StageFileDoesNotExistError, StageNotFound

    kinds: dict[type[Exception], Refusal] = {
        lock_error(): "busy",
        StageNotFound: "no stage",
        StageFileDoesNotExistError: "no pipeline",
        FileIsGitIgnored: "ignored by git",
        SCMError: "no git",
    }
    return next((reason for kind, reason in kinds.items() if isinstance(raised, kind)), None)


# Its locks


def lock(repo: "Repo") -> None:
    """Take the repository's lock, as every DVC command that writes does. Raises `lock_error` if
    another process keeps it for three seconds."""
    repo.lock.lock()


def unlock(repo: "Repo") -> None:
    """Release the repository's lock where it is held."""
    if repo.lock.is_locked:
        repo.lock.unlock()


def lock_error() -> type[Exception]:
    """The exception class raised by `lock`, and by `exclusive` where another process uses one of
    the paths."""
    from dvc.lock import LockError

    return LockError


def reset(repo: "Repo") -> None:
    """Drop what the repository has cached of its files, which others may write once it is unlocked.
    DVC does the same around a stage's command."""
    repo._reset()


def exclusive(stage: "PipelineStage") -> AbstractContextManager[None]:
    """In the block no other process writes what the stage reads, or touches what it writes;
    `lock_error` names a process that does. Rests on the list of busy paths that DVC keeps in its
    tmp folder, which tells holders apart by process and by this very name: DVC's own methods lock
    again inside."""
    from dvc.rwlock import rwlock

    repo = stage.repo
    return cast(
        "AbstractContextManager[None]",
        rwlock(
            repo.tmp_dir,
            repo.fs,
            " ".join(sys.argv),
            [dependency.fs_path for dependency in stage.deps],
            [output.fs_path for output in stage.outs],
            _hardlink_lock(repo),
        ),
    )


def damaged_busy_paths(repo: "Repo") -> Path | None:
    """The file with DVC's busy paths (see `exclusive`) where a process was killed while writing it;
    `{}` is an empty one. None where it can be read. The caller holds the repository's lock, without
    which DVC does not write the file."""
    from dvc.rwlock import (
        RWLOCK_FILE,
        RWLockFileCorruptedError,
        RWLockFileFormatError,
        _edit_rwlock,
    )

    try:
        with _edit_rwlock(repo.tmp_dir, repo.fs, _hardlink_lock(repo)):
            return None
    except (RWLockFileCorruptedError, RWLockFileFormatError):
        return Path(str(repo.tmp_dir), RWLOCK_FILE)


def _hardlink_lock(repo: "Repo") -> bool:
    return bool(repo.config["core"].get("hardlink_lock", False))


@contextmanager
def staged_in_git(repo: "Repo") -> Iterator[None]:
    """At the block's end, stage the files named by `track` in git where the user has DVC do that
    (`core.autostage`). Otherwise DVC would print what to stage; that is suppressed."""
    with repo.scm_context(quiet=True):
        yield


def track(repo: "Repo", path: Path) -> None:
    """Name a file that was written, within `staged_in_git`."""
    from dvc.utils import relpath

    repo.scm_context.track_file(relpath(path))


# The pipeline


def load_stage(
    repo: "Repo", address: str, entries: Mapping[str, Any] | None = None
) -> "PipelineStage":
    """A stage of `dvc.yaml`, with what `dvc.lock` recorded. entries: that file's, where the caller
    has read it, as DVC needs seconds for a long one; None where there is no file.

    Rests on the stage keeping the object of the file that it was loaded from, and on that object
    reading `dvc.lock` only where `lockfile_contents` is not set. Raises `error` where the file or
    stage does not exist, or git ignores the lock file.
    """
    from dvc.dvcfile import load_file

    dvcfile = load_file(repo, f"{repo.root_dir}/dvc.yaml")
    if entries is not None:
        dvcfile._lockfile._check_gitignored()
        dvcfile.lockfile_contents = {"schema": "2.0", "stages": entries}
    stage = dvcfile.stages[address]
    # Otherwise it would open the files again, and read dvc.lock a second time.
    stage.dvcfile = dvcfile
    return cast("PipelineStage", stage)


def stage_beside(stage: "PipelineStage", address: str) -> "PipelineStage":
    """A new object for a stage of the same file."""
    return cast("PipelineStage", stage.dvcfile.stages[address])


def recorded_entries(stage: "PipelineStage") -> Mapping[str, Any]:
    """The entries of all stages in `dvc.lock`."""
    return cast("Mapping[str, Any]", stage.dvcfile.lockfile_contents.get("stages", {}))


def files_of_variables(stage: "PipelineStage") -> list[str]:
    """The entries of `vars` in `dvc.yaml` as written: `name` or `name:keys`."""
    variables = stage.dvcfile.contents.get("vars", [])
    return [name for name in variables if isinstance(name, str)]


def resolved_stages(stage: "PipelineStage") -> dict[str, dict[str, Any]]:
    """Every stage of the file by address, with `foreach` and `${..}` resolved. DVC also resolves a
    stage when it is asked for, but then repeatedly."""
    resolver = stage.dvcfile.resolver
    return {address: resolver.resolve_one(address)[address] for address in resolver.get_keys()}


# A stage


@dataclass(frozen=True)
class Item:
    """A dependency or an output of a stage. path: as `dvc.yaml` has it."""

    path: str
    _item: Any

    @property
    def exists(self) -> bool:
        """Whether anything is at its path now."""
        return bool(self._item.exists)

    def digest(self) -> Any:
        """The digest of what is there now: an MD5; for settings, their values. A file is read
        unless DVC has digested it before at the same size, time and inode."""
        return self._item.get_hash().value

    @property
    def noted_digest(self) -> Any:
        """The digest at the time when the stage was last loaded, stored or found unchanged."""
        return self._item.hash_info.value

    def changed_here(self) -> bool:
        """Whether it differs from what was recorded. For what is stored elsewhere this is not
        asked."""
        return bool(self._item.protocol == "local" and self._item.workspace_status())


def dependencies(stage: "PipelineStage") -> list[Item]:
    """Everything the stage reads, including settings, one item for each file of them."""
    return [Item(item.def_path, item) for item in stage.deps]


def outputs(stage: "PipelineStage") -> list[Item]:
    """Everything the stage writes."""
    return [Item(item.def_path, item) for item in stage.outs]


def is_frozen(stage: "PipelineStage") -> bool:
    """Whether the user told DVC to treat the stage as up to date."""
    return bool(stage.frozen)


def is_command_changed(stage: "PipelineStage") -> bool:
    """Whether its command differs from the recorded one, as found when the stage was loaded."""
    return bool(stage.cmd_changed)


def is_changed(stage: "PipelineStage") -> bool:
    """Whether its command, or anything it reads or wrote, differs from what was recorded. Unchanged
    outputs are noted on the stage, as storing them would."""
    return bool(stage.changed())


def remove_outputs(stage: "PipelineStage") -> None:
    """Delete what is at the outputs' paths, except what the user wants kept (`persist`)."""
    stage.remove_outs(ignore_remove=False)


def restore(stage: "PipelineStage") -> bool:
    """Restore the outputs of an earlier run with the same command and inputs from the run cache.
    False, with nothing written, where there is none."""
    from dvc.stage.cache import RunCacheNotFoundError

    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    return True


def noted_run(stage: "PipelineStage") -> dict[str, Any] | None:
    """The run cache's note of the last run with the present inputs, as an entry of `dvc.lock`. DVC
    writes the note before it stores the outputs, so it exists even where storing failed."""
    # On another object, as digesting the inputs again would mislead `restore`.
    probe = stage_beside(stage, stage.name)
    probe.save_deps()
    return cast("dict[str, Any] | None", stage.repo.stage_cache._load(probe))


def store(stage: "PipelineStage") -> bool:
    """Digest inputs and outputs, note the run, and put the outputs into the cache. False where a
    file could not be put there, which DVC itself only logs."""
    stage.save()
    stage.commit()
    return bool(stage.outs_cached())


def lock_entry(stage: "PipelineStage") -> dict[str, Any]:
    """The stage's entry for `dvc.lock`, made from the digests noted on the object."""
    from dvc.stage.serialize import to_single_stage_lockfile

    return cast("dict[str, Any]", to_single_stage_lockfile(stage))
