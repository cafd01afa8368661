"""Mark flow runs whose process was killed as CRASHED, so that none stays RUNNING for ever.

Prefect notices the death of a flow run's process only where a runner watches it, and its heartbeats
need a server that happens to be up. Here the operating system is used: each flow run holds a lock
on a file of the workspace, which is released whenever and however its process ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_MESSAGE = (
    "The process of this run was killed, or its machine stopped. Run it again: what was finished "
    "is kept."
)


@contextmanager
def alive(workspace: Workspace, flow_run_id: str) -> Iterator[None]:
    """In the block, other processes can tell that the flow run is alive.

    A run that loses its server cannot report how it ended: its marker stays, like that of a killed
    one.
    """
    import httpx

    folder = _folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / flow_run_id
    # Locked before it gets its name: a marker found under its name and unlocked is a dead run's.
    unnamed = folder / f".{flow_run_id}.{os.getpid()}"
    with unnamed.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        unnamed.rename(marker)
        lost = False
        try:
            yield
        except httpx.TransportError:
            lost = True
            raise
        finally:
            if not lost:
                marker.unlink(missing_ok=True)


def dead_runs(workspace: Workspace) -> list[Path]:
    """Markers, named after their flow run, that no process holds any more."""
    markers = _folder(workspace).glob("[!.]*")
    return [marker for marker in sorted(markers) if _is_dead(marker)]


def mark_dead_runs(workspace: Workspace) -> list[UUID]:
    """Set the workspace's flow runs whose process is gone to CRASHED, with their task runs.

    Returns the runs that it set. A run that this API does not know (its server was another) is
    tried again next time.
    """
    dead = dead_runs(workspace)
    if not dead:
        return []
    from prefect.client.orchestration import get_client

    marked = []
    with get_client(sync_client=True) as client:
        for marker in dead:
            flow_run_id = UUID(marker.name)
            if _mark(client, flow_run_id):
                marked.append(flow_run_id)
                marker.unlink(missing_ok=True)
    return marked


def _mark(client: "SyncPrefectClient", flow_run_id: UUID) -> bool:
    """Whether the API knows the flow run; if so, set it, its task runs and the flow runs that it
    started to a final state. One that had not begun yet has no marker of its own."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        FlowRunFilterParentFlowRunId,
        FlowRunFilterState,
        FlowRunFilterStateType,
        TaskRunFilter,
        TaskRunFilterState,
        TaskRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    try:
        flow_run = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return False
    # Only these, as the API returns 200 at a time, and a campaign may have more.
    types = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    started = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)),
        )
    )
    for child in started:
        _mark(client, child.id)
    task_runs = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=types), name=None)
        ),
    )
    for task_run in task_runs:
        client.set_task_run_state(task_run.id, Crashed(message=_MESSAGE), force=True)
    if flow_run.state and flow_run.state.type in types:
        client.set_flow_run_state(flow_run_id, Crashed(message=_MESSAGE), force=True)
    return True


def _is_dead(marker: Path) -> bool:
    try:
        with marker.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _folder(workspace: Workspace) -> Path:
    return workspace.scratch_dir / "flow-runs"
