"""Who is writing a run, to tell what a crash left from what another recorder is still writing.

Several workspaces may record into one store. Each run names the process that writes it, and is left
alone while that process may live.
"""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from distil_core.workspace import Workspace

OWNER_TAG = "distil.recorder.process"

ABANDONED_AFTER_S = 3600.0
"""From then on a run of a process that cannot be asked for from here counts as left by a crash.
Recording one takes seconds."""


def owner(workspace: Workspace) -> str:
    """A name for this process, recording from this workspace."""
    pid = os.getpid()
    return json.dumps(
        {
            "place": _place(),
            "pid": pid,
            "started": _started(pid),
            "workspace": str(workspace.root.resolve()),
            "since_s": int(time.time()),
        }
    )


def may_be_written(tag: str | None, workspace: Workspace) -> bool:
    """Whether the owner of an unfinished run may still be writing it. This process in this
    workspace is not, as it does one thing at a time."""
    try:
        values = json.loads(tag or "")
        return _may_live(values, str(workspace.root.resolve()))
    except (ValueError, TypeError, KeyError):
        # Written by a version without owners, which had one recorder: the process that asks.
        return False


def _may_live(values: dict[str, Any], root: str) -> bool:
    if values["place"] != _place():
        return time.time() - values["since_s"] < ABANDONED_AFTER_S
    if values["pid"] == os.getpid() and values["workspace"] == root:
        return False
    return _started(values["pid"]) == values["started"] is not None


def _place() -> str:
    """The scope in which process ids are unique: a machine since its start, and on Linux a
    container of it."""
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        # Not Linux: only the name is known.
        pass
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When the process with this id started, in units of its system; None where there is none. The
    id alone may belong to another process by now."""
    try:
        # Fields after the name, which may have blanks and parentheses: state is first, start 20th.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
