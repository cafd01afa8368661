"""Run an iteration again from its snapshot and compare every artifact with the recorded one.

The snapshot is checked out into its own git worktree. Stages run as DVC would run them, by the
commands in the snapshot's `dvc.lock`, but DVC neither restores nor records: the user's `dvc.lock`,
run cache and `.distil` are not used. Inputs are read from the shared cache.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from distil_core.errors import LineageError
from distil_core.lineage.dvc.digest import content_md5
from distil_core.lineage.dvc.lock import (
    Entry,
    LockedArtifact,
    artifacts,
    read_entries,
)
from distil_core.lineage.git import own_environment
from distil_core.lineage.reproduce.code import put_recorded_code
from distil_core.lineage.reproduce.data import SnapshotData
from distil_core.lineage.reproduce.differences import largest_differences
from distil_core.lineage.reproduce.worktree import Say, temporary_worktree
from distil_core.lineage.snapshot.take import REFS, Snapshot, find_snapshot, list_snapshots
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace

_LOG_LINES = 20


@dataclass(frozen=True)
class Comparison:
    """One artifact. expected, got: md5 as in dvc.lock. differences: the largest ones, where
    unequal."""

    path: str
    expected: str
    got: str
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return self.expected == self.got


def require_snapshot(workspace: Workspace, campaign: str, iteration: int) -> Snapshot:
    """The snapshot to reproduce. Raises `LineageError` that lists those there are."""
    snapshot = find_snapshot(workspace, campaign, iteration)
    if snapshot:
        return snapshot
    present = [f"{name}/{number}" for name, number in list_snapshots(workspace)]
    raise LineageError(
        f"no snapshot of {campaign}/{iteration}; there are: {', '.join(present) or 'none'}. A "
        f"clone has them after `git fetch origin '{REFS}/*:{REFS}/*'`; `distil record` takes those "
        "of finished iterations."
    )


def reproduce(
    workspace: Workspace,
    snapshot: Snapshot,
    iteration: int,
    say: Say,
    from_scratch: bool = False,
    keep: bool = False,
) -> list[Comparison]:
    """Run the iteration's stages again, or with `from_scratch` all it came from, and compare.

    say: gets a line now and then. keep: leave the worktree where it is. Raises `LineageError`
    when the snapshot lacks a stage, an input is nowhere to be had, or a stage fails.
    """
    with temporary_worktree(workspace, snapshot.commit, say, keep) as tree:
        entries = read_entries(tree)
        stages = _stages(entries, iteration, from_scratch)
        data = SnapshotData(workspace, tree)
        inputs = _inputs(entries, stages)
        say(f"{len(stages)} stages to run; {len(inputs)} inputs from the cache or the remote")
        data.fetch(inputs)
        _link_outside_files(workspace, tree, entries, stages)
        code = tree.root.parent / "recorded-code"
        if differing := put_recorded_code(tree, code):
            say(f"runs the recorded code, not what is here now: {', '.join(differing)}")
        for address in stages:
            started = time.monotonic()
            _run(tree, address, entries[address]["cmd"], code)
            say(f"{address:<14} ran {time.monotonic() - started:7.1f} s")
        expected = [
            locked for address in stages for locked in artifacts(entries[address], "outs").values()
        ]
        return [_compare(tree, data, locked) for locked in expected]


def _stages(entries: dict[str, Entry], iteration: int, from_scratch: bool) -> list[str]:
    """Addresses in the order they run."""
    first = 0 if from_scratch else iteration
    stages = [a for number in range(first, iteration + 1) for a in stage_addresses(number)]
    missing = [address for address in stages if address not in entries]
    if missing:
        raise LineageError(
            f"the snapshot's dvc.lock has no {', '.join(missing)}: that was never run, or made by "
            "another version of the pipeline. Check the snapshot out with `git worktree add` and "
            "use its own `dvc repro`."
        )
    return stages


def _inputs(entries: dict[str, Entry], stages: list[str]) -> list[LockedArtifact]:
    """What the stages read that none of them makes, but another stage of the campaign does."""
    made = {path for address in stages for path in artifacts(entries[address], "outs")}
    kept = {path for entry in entries.values() for path in artifacts(entry, "outs")} - made
    read = {
        path: locked
        for address in stages
        for path, locked in artifacts(entries[address], "deps").items()
    }
    return [locked for path, locked in read.items() if path in kept]


def _link_outside_files(
    workspace: Workspace, tree: Workspace, entries: dict[str, Entry], stages: list[str]
) -> None:
    """Link the inputs that no stage makes and git does not have, such as a checkpoint beside the
    code."""
    made = {path for entry in entries.values() for path in artifacts(entry, "outs")}
    for address in stages:
        for path, locked in artifacts(entries[address], "deps").items():
            if path in made or content_md5(tree.root / path) == locked.md5:
                continue
            source = workspace.root / path
            if content_md5(source) != locked.md5:
                raise LineageError(
                    f"{address} reads {path} (md5 {locked.md5}), which neither git nor DVC "
                    f"keeps: put that very file at {source.resolve()} and run again"
                )
            (tree.root / path).parent.mkdir(parents=True, exist_ok=True)
            (tree.root / path).symlink_to(source.resolve(), source.is_dir())


def _run(tree: Workspace, address: str, command: str, code: Path) -> None:
    """Run the stage's command in the worktree as DVC would, so that it records nothing. code: of
    users' packages, as recorded."""
    words = shlex.split(command)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    first = os.pathsep.join(map(str, (tree.root / "src", tree.root, code)))
    inherited = os.environ.get("PYTHONPATH")
    environment = own_environment() | {
        "PATH": path,
        # Otherwise the installed project would be imported, which may be another version.
        "PYTHONPATH": f"{first}{os.pathsep}{inherited}" if inherited else first,
        "DVC_STAGE": address,
        "DVC_ROOT": str(tree.root),
    }
    if words[0] == "python":
        words[0] = sys.executable
    log = tree.root.parent / f"{address}.log"
    with log.open("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            words,
            cwd=tree.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise LineageError(
            f"{address} failed with exit status {status} when run again: `{command}` said\n"
            + "\n".join(lines)
        )


def _compare(tree: Workspace, data: SnapshotData, locked: LockedArtifact) -> Comparison:
    found = content_md5(tree.root / locked.path)
    differences: list[str] = []
    if found and found != locked.md5:
        try:
            with data.original(locked) as original:
                differences = largest_differences(original, tree.root / locked.path)
        except LineageError as error:
            differences = [f"the recorded one is not to be had, so no difference: {error}"]
    return Comparison(locked.path, locked.md5, found or "missing", tuple(differences))
