"""A full disk: the command runs on a copy of the workspace in a small tmpfs, with room for a part
of what it writes. Mounted in a name space of its own, which needs no root where the kernel lets
users have one."""

import subprocess
from pathlib import Path

from benchmarks.faults.scene import DOORS, STAGES, NotInjectedError, Result, Scene

# In the name space: what is at the workspace's path is the small disk, what was there is at $1.
_SCRIPT = """\
set -e
mount --bind "$2" "$1"
mount -t tmpfs -o size="$3"k none "$2"
cp -a "$1/." "$2/"
cd "$2"
shift 3
set +e
"$@"
status=$?
set -e
cd /
find "$HELD" -mindepth 1 -delete
cp -a "$DISK/." "$HELD/"
exit $status
"""
_FULL = r"(?i)no space left|disk is full|disk full|MB free"


def full_disk(scene: Scene) -> str:
    """Room for a random part of what the stage (or flow) writes, then none."""
    _require_name_spaces()
    spare_kb = int(2 ** scene.random.uniform(2, 12))
    while spare_kb:
        result = _run_in(scene, spare_kb)
        if result.status:
            scene.require_message(result, _FULL)
            scene.require_whole()
            scene.require_mended()
            return f"{spare_kb} kB free at the start"
        scene.reset()
        spare_kb //= 2
    raise NotInjectedError("the command wrote nothing")


def _run_in(scene: Scene, spare_kb: int) -> Result:
    held = scene.root.with_name(f"{scene.root.name}.held")
    held.mkdir()
    size_kb = spare_kb + sum(_blocks_kb(path) for path in (scene.root, *scene.root.rglob("*")))
    arguments = [str(held), str(scene.root), str(size_kb)]
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", _SCRIPT, "sh", *arguments]
    try:
        return scene.run(prefix=prefix, HELD=str(held), DISK=str(scene.root))
    finally:
        held.rmdir()


def _blocks_kb(path: Path) -> int:
    """What it takes of a tmpfs: whole pages, for a folder or link none."""
    if path.is_symlink() or not path.is_file():
        return 0
    return -(-path.stat().st_size // 4096) * 4


def _require_name_spaces() -> None:
    probe = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NotInjectedError(f"no small disk can be mounted here: {error}") from error
    if tried.returncode:
        raise NotInjectedError(f"no small disk can be mounted here: {tried.stderr.strip()}")


KINDS = {"full disk": (full_disk, DOORS, STAGES)}
