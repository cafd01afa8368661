"""What a program must not change on the host: processes, descriptors, files, memory."""

import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed (apt install bubblewrap)"
)
"""For tests that would meet its absence in another process than their own."""

MARK = "distil_attack_"
"""Begins the name of each file that an attack tries to leave behind."""
_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/box", ".")
_MOST_GROWTH_MB = 96


def descendants(pid: int) -> set[int]:
    """All living processes below `pid`, in any process namespace."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(entry))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting += below
    return found


@dataclass(frozen=True)
class HostState:
    num_processes: int
    num_descriptors: int
    most_memory_mb: float

    @classmethod
    def now(cls) -> "HostState":
        return cls(
            len(descendants(os.getpid())),
            len(os.listdir("/proc/self/fd")),
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )

    def check_unchanged(self) -> None:
        now = HostState.now()
        assert now.num_processes == self.num_processes, "processes came or went"
        assert now.num_descriptors == self.num_descriptors, "descriptors came or went"
        assert now.most_memory_mb < self.most_memory_mb + _MOST_GROWTH_MB, "memory grew"
        left = [path for folder in _FOLDERS for path in Path(folder).glob(f"{MARK}*")]
        assert left == [], "files were left"
