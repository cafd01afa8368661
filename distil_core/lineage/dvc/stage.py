"""Run a stage in this process so that DVC knows about it as if `dvc repro` had run it.

What DVC does around a stage's command is done here around a function: check for changes, remove the
outputs, restore them from the run cache or make them, digest, store, record. Afterwards `dvc
status` is clean and `dvc repro` has nothing to run, and vice versa. DVC's own runner, with a client
as its command, costs more and guarantees less: docs/benchmarks.md.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from distil_core.errors import LineageError
from distil_core.lineage.dvc import _internals
from distil_core.lineage.dvc.lock import artifacts, lock_file, write_entry
from distil_core.lineage.dvc.session import (
    disk_errors,
    load_stage,
    open_repo,
    unlocked,
)
from distil_core.lineage.dvc.upstream import (
    Pipeline,
    load_pipeline,
    require_outputs,
    require_recorded,
    require_upstream,
)
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from distil_core.lineage.dvc._internals import PipelineStage

Status = Literal["ran", "restored", "unchanged"]


@dataclass(frozen=True)
class StageOutcome:
    """What happened to a stage. seconds: of the whole call. outputs: md5 by path, as in dvc.lock.

    status: "ran" (its body was called); "restored" (the outputs of an earlier run with the same
    inputs came from DVC's run cache); "unchanged" (there was nothing to do).
    """

    address: str
    status: Status
    seconds: float
    outputs: dict[str, str]


def run_stage(
    workspace: Workspace, address: str, body: Callable[[], None], force: bool = False
) -> StageOutcome:
    """Bring a stage up to date; `body` is called if there is no other way (or with `force`).

    `body` writes all outputs of the stage; others may use the repository meanwhile. If it raises,
    its error is passed on, none of its outputs stays, and the earlier record is kept (`dvc
    checkout` restores it). Stages of one process run one at a time.

    Raises `LineageError`, with what to do, when an earlier stage must run first, another process
    runs the stage, a dependency changed meanwhile, or DVC cannot record.
    """
    started = time.monotonic()
    with open_repo(workspace, address) as repo:
        stage = load_stage(repo, address)
        pipeline = load_pipeline(stage)
        require_upstream(pipeline, address)
        status: Status = "unchanged"
        if force or _internals.is_changed(stage):
            with _internals.exclusive(stage):
                status = _make(stage, pipeline, body, force)
                _record(workspace, stage)
        else:
            require_recorded(pipeline, stage)
        outputs = {output.path: str(output.noted_digest) for output in _internals.outputs(stage)}
    return StageOutcome(address, status, time.monotonic() - started, outputs)


def is_up_to_date(workspace: Workspace, address: str) -> bool:
    """Whether `run_stage` would find the stage, and everything it builds on, unchanged."""
    with open_repo(workspace, address) as repo:
        stage = load_stage(repo, address)
        pipeline = load_pipeline(stage)
        if pipeline.stale_ancestor(address) or pipeline.stale_reason(address):
            return False
        return not _internals.is_changed(stage)


def are_up_to_date(workspace: Workspace, addresses: Sequence[str]) -> bool:
    """Whether `run_stage` would find each of these stages unchanged, its files on disk included.
    addresses: at least one, and with all that they build on."""
    with open_repo(workspace, addresses[-1]) as repo:
        for address in addresses:
            stage = load_stage(repo, address)
            if load_pipeline(stage).stale_reason(address) or _internals.is_changed(stage):
                return False
    return True


def _make(
    stage: "PipelineStage", pipeline: Pipeline, body: Callable[[], None], force: bool
) -> Status:
    """Make, digest and store the stage's outputs. Where the body fails, none of them stays; where
    storing fails, all stay, for the next run to store."""
    require_recorded(pipeline, stage)
    status: Status = "restored"
    if force or not _made_but_not_stored(stage):
        _internals.remove_outputs(stage)
        if force or not _restore(stage):
            status = "ran"
            before = _inputs(stage)
            try:
                with unlocked(stage.repo, stage.name):
                    body()
                _require_same_inputs(stage, before)
                require_outputs(stage)
            except BaseException:
                _internals.remove_outputs(stage)
                raise
    _store(stage)
    return status


def _made_but_not_stored(stage: "PipelineStage") -> bool:
    """Whether the outputs on disk are those of a run with the present inputs, by the digests that
    DVC's run cache noted before storing them failed."""
    noted, outputs = _internals.noted_run(stage), _internals.outputs(stage)
    if not noted or not all(output.exists for output in outputs):
        return False
    found = {output.path: output.digest() for output in outputs}
    return found == {path: output.md5 for path, output in artifacts(noted, "outs").items()}


def _restore(stage: "PipelineStage") -> bool:
    with disk_errors(stage):
        return _internals.restore(stage)


def _store(stage: "PipelineStage") -> None:
    with disk_errors(stage):
        stored = _internals.store(stage)
    if not stored:
        raise LineageError(
            f"DVC could not store the outputs of {stage.name} in its cache (see its message "
            "above). They are kept: repair the cause and run again to store and record them."
        )


def _inputs(stage: "PipelineStage") -> dict[str, Any]:
    return {item.path: item.digest() for item in _internals.dependencies(stage)}


def _require_same_inputs(stage: "PipelineStage", before: dict[str, Any]) -> None:
    """Raise `LineageError` where an input changed during the run: DVC would record the new one,
    which the outputs were not made from."""
    after = _inputs(stage)
    changed = sorted(path for path in before if before[path] != after[path])
    if changed:
        raise LineageError(
            f"{', '.join(changed)} changed while {stage.name} ran, so its outputs belong to "
            f"neither version and were not recorded. Run {stage.name} again."
        )


def _record(workspace: Workspace, stage: "PipelineStage") -> None:
    if write_entry(workspace, stage.name, _internals.lock_entry(stage)):
        # For those who let DVC stage changed files in git (core.autostage).
        _internals.track(stage.repo, lock_file(workspace))
