"""Locks that dead or foreign processes left or hold: DVC's, SQLite's; and two commands at once."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.faults.scene import (
    DOORS,
    FLOW,
    STAGES,
    TASK,
    NotSurvivedError,
    Scene,
    finish,
)


def stale_rwlock(scene: Scene) -> str:
    """A stage killed with -9 leaves its paths in DVC's list of busy ones."""
    outputs = scene.reference.entries[scene.stage]["outs"]
    holder = {"pid": _dead_process_id(), "cmd": "a command that was killed"}
    written = {str(scene.root / out["path"]): holder for out in outputs}
    _rwlock(scene).write_text(json.dumps({"write": written, "read": {}}))
    scene.require_mended()
    return f"{len(written)} paths"


def damaged_rwlock(scene: Scene) -> str:
    """DVC writes the list in place: killed in between, it leaves an empty or cut file."""
    content = json.dumps({"write": {str(scene.root / "data"): {"pid": 1, "cmd": "x"}}, "read": {}})
    cut = content[: scene.random.randrange(len(content))]
    _rwlock(scene).write_text(cut)
    scene.require_mended()
    return f"{len(cut)} bytes of it"


def stale_repo_lock(scene: Scene) -> str:
    """The file of DVC's own lock is there, with the number of a process that is gone."""
    lock = scene.root / ".dvc" / "tmp" / "lock"
    lock.write_text(f"{_dead_process_id():>7}\n")
    scene.require_mended()
    return str(lock.relative_to(scene.root))


def locked_mlflow(scene: Scene) -> str:
    """Another process holds MLflow's database in a transaction and does not let go."""
    return _locked(scene, scene.workspace.mlflow_database)


def locked_prefect(scene: Scene) -> str:
    """The same with Prefect's database, which the run's own server needs."""
    return _locked(scene, scene.root / ".prefect" / "prefect.db")


def briefly_locked_prefect(scene: Scene) -> str:
    """Let go after some seconds: nobody should notice."""
    seconds = scene.random.uniform(1, 8)
    with _held(scene.root / ".prefect" / "prefect.db", seconds):
        scene.require_mended()
    return f"{seconds:.0f} s"


def two_at_once(scene: Scene) -> str:
    """The same command twice: both end well, or one of them says who is there."""
    both = [scene.start(), scene.start()]
    results = [finish(process) for process in both]
    for result in results:
        if result.status:
            scene.require_message(result, "(?i)busy|blocked|lock|another|while")
    scene.require_whole()
    scene.require_mended()
    return f"exits {' and '.join(str(result.status) for result in results)}"


def flow_beside_repro(scene: Scene) -> str:
    """`dvc repro` of everything while a flow does the same."""
    both = [scene.start("-m", "distil_flows.cli", "run"), scene.start("-m", "dvc", "repro")]
    results = [finish(process) for process in both]
    for result in results:
        if result.status:
            scene.require_message(result, "(?i)busy|blocked|lock|another|while")
    scene.require_whole()
    scene.require_mended()
    return f"exits {' and '.join(str(result.status) for result in results)}"


def _locked(scene: Scene, database: Path) -> str:
    if not database.exists():
        # As the flow would have left it: recording makes it.
        recorded = scene.run("-m", "distil_flows.cli", "record")
        if recorded.status:
            raise NotSurvivedError(f"distil record:\n{recorded.output}")
    with _held(database, 600):
        result = scene.run()
    scene.require_message(result, "(?i)locked")
    scene.require_whole()
    scene.require_mended()
    return database.name


@contextmanager
def _held(database: Path, seconds: float) -> Iterator[None]:
    """An exclusive transaction in another process, at most that long."""
    script = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "print('held', flush=True)\n"
        "time.sleep(float(sys.argv[2]))\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(database), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        if not holder.stdout or holder.stdout.readline() != "held\n":
            raise RuntimeError(f"{database} could not be locked")
        try:
            yield
        finally:
            holder.kill()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()


def _rwlock(scene: Scene) -> Path:
    folder = scene.root / ".dvc" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "rwlock"


def _dead_process_id() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return process.pid
    raise RuntimeError(f"process {process.pid} has been replaced already")


KINDS = {
    "stale rwlock": (stale_rwlock, DOORS, STAGES),
    "damaged rwlock": (damaged_rwlock, (FLOW, TASK), STAGES),
    "stale DVC lock": (stale_repo_lock, DOORS, STAGES),
    "two at once": (two_at_once, DOORS, STAGES),
    "flow beside dvc repro": (flow_beside_repro, (FLOW,), STAGES),
    "locked MLflow database": (locked_mlflow, (FLOW,), ("gate@001",)),
    "locked Prefect database": (locked_prefect, (FLOW,), ("gate@001",)),
    "Prefect database locked a while": (briefly_locked_prefect, (FLOW,), ("gate@001",)),
}
