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
    """No notes and no progress bars, warnings only. Rests on the names of DVC's loggers, and on its
    progress bars being shown only where the second one is enabled."""
    logging.getLogger("dvc").setLevel(logging.WARNING)
    logging.getLogger("dvc.progress").setLevel(logging.CRITICAL)


# Text


def dumps_yaml(contents: Mapping[str, Any]) -> str:
    """As DVC would write it: `dvc.lock` that is put together from such pieces has DVC's bytes."""
    from dvc.utils.serialize import dumps_yaml as dumps

    return str(dumps(contents))


def parse_yaml(text: str, name: str) -> Any:
    """As DVC reads settings: YAML 1.2, where `1e-05` is a number and `no` is a word."""
    from dvc.utils.serialize import parse_yaml as parse

    return parse(text, name)


def parse_yaml_for_update(text: str, name: str) -> Any:
    """Mappings that `dumps_yaml` gives back in the same order, with their comments."""
    from dvc.utils.serialize import parse_yaml_for_update as parse

    return parse(text, name)


# Configuration


def read_config(folder: Path) -> Mapping[str, Any]:
    """What is in force in the repository with this `.dvc` folder: the system's, the user's, its own
    and its local settings, with `core`, `remote` and `cache` always there. A folder that is not
    there has none of its own. Raises `config_error`."""
    from dvc.config import Config

    return cast("Mapping[str, Any]", Config(str(folder)))


def read_committed_config(folder: Path) -> Mapping[str, Any]:
    """What `.dvc/config` alone says, addresses as they are written. Raises `config_error`."""
    from dvc.config import Config

    return cast("Mapping[str, Any]", Config(str(folder)).load_file(str(folder / "config")))


def config_error() -> type[Exception]:
    """What DVC raises where its configuration cannot be read."""
    from dvc.config import ConfigError

    return ConfigError


# A repository


def open_repo(root: Path, config: Mapping[str, Any] | None = None) -> "Repo":
    """A context manager that closes it. config: over what its files say, and written nowhere."""
    from dvc.repo import Repo as DvcRepo

    return DvcRepo(str(root), config=None if config is None else dict(config))


def push(repo: "Repo", addresses: list[str]) -> int:
    """Send what these stages and all they came from wrote; how many files the remote lacked."""
    return int(repo.push(targets=addresses, with_deps=True))


def checkout(repo: "Repo", paths: list[str]) -> bool:
    """Put these outputs where they belong, over what is there. False where the cache lacks one,
    which DVC tells after it has tried the others."""
    from dvc.exceptions import CheckoutError

    try:
        repo.checkout(targets=paths, force=True)
    except CheckoutError:
        return False
    return True


def pull(repo: "Repo", paths: list[str]) -> None:
    """The same from the remote; raises whatever the remote's library does."""
    repo.pull(targets=paths, force=True)


def error() -> type[Exception]:
    """What all of DVC's own errors are."""
    from dvc.exceptions import DvcException

    return DvcException


def refusal(raised: Exception) -> Refusal | None:
    """Which of the known reasons an error tells of."""
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
    """Take the repository's lock, as every command of DVC's that writes does; `lock_error` after
    three seconds of another's having it."""
    repo.lock.lock()


def unlock(repo: "Repo") -> None:
    """Give it back where it is held."""
    if repo.lock.is_locked:
        repo.lock.unlock()


def lock_error() -> type[Exception]:
    """What `lock` raises, and `exclusive` where another process has one of the paths."""
    from dvc.lock import LockError

    return LockError


def forget(repo: "Repo") -> None:
    """Have the repository read anew what it has read: others may write it once it is unlocked. DVC
    does the same around a stage's command."""
    repo._reset()


def exclusive(stage: "PipelineStage") -> AbstractContextManager[None]:
    """No other process writes what the stage reads, or touches what it writes; `lock_error` names
    one that does. Rests on the list of busy paths that DVC keeps in its tmp folder, whose holders
    are told apart by process and by this very name: DVC's own methods lock again inside."""
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
    """That list, where a process was killed while it wrote it; `{}` is an empty one. None where it
    can be read. The caller holds the repository's lock, under which alone DVC writes it."""
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
    """What `track` names in the block is staged in git at its end where the user has DVC do that
    (`core.autostage`); else DVC would say what to stage, and says nothing."""
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
    """A stage of `dvc.yaml`, filled with what `dvc.lock` recorded. entries: of that file, where the
    caller has read it, which takes DVC seconds of a long one; None where there is no file.

    Rests on the stage keeping the object of the file that it was loaded from, and on that object
    reading `dvc.lock` only where `lockfile_contents` was not set. Raises `error` where there is no
    such file or stage, or git ignores the lock file.
    """
    from dvc.dvcfile import load_file

    dvcfile = load_file(repo, f"{repo.root_dir}/dvc.yaml")
    if entries is not None:
        dvcfile._lockfile._check_gitignored()
        dvcfile.lockfile_contents = {"schema": "2.0", "stages": entries}
    stage = dvcfile.stages[address]
    # Else it would open the files for itself, and read dvc.lock a second time.
    stage.dvcfile = dvcfile
    return cast("PipelineStage", stage)


def stage_beside(stage: "PipelineStage", address: str) -> "PipelineStage":
    """A fresh object of a stage of the same file."""
    return cast("PipelineStage", stage.dvcfile.stages[address])


def recorded_entries(stage: "PipelineStage") -> Mapping[str, Any]:
    """What `dvc.lock` says of all stages."""
    return cast("Mapping[str, Any]", stage.dvcfile.lockfile_contents.get("stages", {}))


def files_of_variables(stage: "PipelineStage") -> list[str]:
    """Of `vars` in `dvc.yaml`, as written there: `name` or `name:keys`."""
    variables = stage.dvcfile.contents.get("vars", [])
    return [name for name in variables if isinstance(name, str)]


def resolved_stages(stage: "PipelineStage") -> dict[str, dict[str, Any]]:
    """Every stage of the file by address, as it is once `foreach` and `${..}` are resolved. DVC
    resolves them when it is asked for one by one, too, but not only once."""
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
        """Whether anything is there now."""
        return bool(self._item.exists)

    def digest(self) -> Any:
        """Of what is there now: an MD5, of settings their values. A file is read unless DVC has
        digested it before at the same size, time and inode."""
        return self._item.get_hash().value

    @property
    def noted_digest(self) -> Any:
        """The one of when the stage was last loaded, stored or found unchanged."""
        return self._item.hash_info.value

    def changed_here(self) -> bool:
        """Whether it is not what was recorded; of what lies elsewhere that is not asked."""
        return bool(self._item.protocol == "local" and self._item.workspace_status())


def dependencies(stage: "PipelineStage") -> list[Item]:
    """All that the stage reads, settings among it, each file of them as one."""
    return [Item(item.def_path, item) for item in stage.deps]


def outputs(stage: "PipelineStage") -> list[Item]:
    """All that the stage writes."""
    return [Item(item.def_path, item) for item in stage.outs]


def is_frozen(stage: "PipelineStage") -> bool:
    """Whether the user told DVC to take the stage as up to date."""
    return bool(stage.frozen)


def is_command_changed(stage: "PipelineStage") -> bool:
    """Whether its command is not the recorded one, as found when the stage was loaded."""
    return bool(stage.cmd_changed)


def is_changed(stage: "PipelineStage") -> bool:
    """Whether its command, anything it reads or anything it wrote is not as recorded. Outputs that
    are as recorded are noted on the stage, as storing them would."""
    return bool(stage.changed())


def remove_outputs(stage: "PipelineStage") -> None:
    """Delete what is at the outputs' paths, all but what the user wants kept (`persist`)."""
    stage.remove_outs(ignore_remove=False)


def restore(stage: "PipelineStage") -> bool:
    """Take the outputs of an earlier run with the same command and inputs out of the run cache.
    False, with nothing written, where it has none."""
    from dvc.stage.cache import RunCacheNotFoundError

    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    return True


def noted_run(stage: "PipelineStage") -> dict[str, Any] | None:
    """What the run cache noted of the last run with the present inputs, as an entry of `dvc.lock`:
    DVC notes it before it stores the outputs, so that it is there where storing failed."""
    # Reading the inputs anew changes the object in a way that misleads `restore`.
    probe = stage_beside(stage, stage.name)
    probe.save_deps()
    return cast("dict[str, Any] | None", stage.repo.stage_cache._load(probe))


def store(stage: "PipelineStage") -> bool:
    """Digest inputs and outputs, note the run, and put the outputs into the cache. False where a
    file could not be put there, of which DVC itself only logs."""
    stage.save()
    stage.commit()
    return bool(stage.outs_cached())


def lock_entry(stage: "PipelineStage") -> dict[str, Any]:
    """The stage as `dvc.lock` has it, of the digests noted on the object."""
    from dvc.stage.serialize import to_single_stage_lockfile

    return cast("dict[str, Any]", to_single_stage_lockfile(stage))
