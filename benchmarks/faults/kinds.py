"""All kinds of faults: name to (how it is injected, the front doors, the stages it can be at)."""

from collections.abc import Callable, Sequence

from benchmarks.faults import damage, disks, kills, locks, servers
from benchmarks.faults.scene import Scene

Kind = tuple[Callable[[Scene], str], Sequence[str], Sequence[str]]

KINDS: dict[str, Kind] = {
    **kills.KINDS,
    **damage.KINDS,
    **disks.KINDS,
    **locks.KINDS,
    **servers.KINDS,
}
