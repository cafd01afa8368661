"""Figures of a stage in MLflow while it works: a run of its own, written by a process of its own.

The record is made from artifacts, after a stage (record.py). What is live is apart from it, in the
experiment `CAMPAIGN (live)`, and may be deleted at any time. The stage appends lines to a file and
waits for nothing: neither a store that is slow or gone nor importing MLflow can hold it up.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from distil_core.errors import LineageError
from distil_core.files import private_folder
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.store import allow_existing, artifact_root, open_store
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.client import MlflowClient

START_AFTER_S = 10.0
"""A stage that ends sooner is recorded as soon as anybody could have looked."""

EVERY_S = 0.5
"""At most so often a stage's figures are noted."""

_POLL_S = 2.0
_MOST_AT_ONCE = 1000
"""Metrics that a store takes in one request."""

_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}

End = Literal["FINISHED", "FAILED"]


def live_experiment(campaign: str) -> str:
    """The name of the experiment of a campaign's live runs."""
    return f"{campaign} (live)"


class LiveFigures:
    """Notes a stage's figures for the process that writes them, and starts it where the stage takes
    long. writer: that process; None where none was needed. Never raises: what is live is worth no
    stage."""

    def __init__(
        self, workspace: Workspace, campaign: str, address: str, start_after_s: float | None = None
    ):
        self._workspace, self._campaign, self._address = workspace, campaign, address
        self._start_after_s = START_AFTER_S if start_after_s is None else start_after_s
        self._started = time.monotonic()
        self._last = -EVERY_S
        self._lines: IO[str] | None = None
        self.writer: subprocess.Popen[bytes] | None = None

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Note them, unless others were noted just now."""
        now = time.monotonic() - self._started
        if now - self._last < EVERY_S:
            return
        self._last = now
        self._note({"step": step, "at_ms": int(1000 * time.time()), "values": dict(values)})
        if self.writer is None and self._lines is not None and now >= self._start_after_s:
            self._start()

    def close(self, end: End) -> None:
        """Say how the stage ended. The process that writes ends by itself."""
        if self._lines is not None:
            self._note({"end": end})
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def _note(self, entry: Mapping[str, Any]) -> None:
        try:
            if self._lines is None:
                path = live_file(self._workspace, self._address)
                private_folder(path.parent)
                self._lines = path.open("w", encoding="utf-8")
            self._lines.write(json.dumps(entry) + "\n")
            self._lines.flush()
        except OSError:
            # A full disk, which the stage meets and reports itself where it matters.
            self._last = float("inf")

    def _start(self) -> None:
        log = live_file(self._workspace, self._address).with_suffix(".log")
        where = (
            *("--workspace", str(self._workspace.root), "--campaign", self._campaign),
            *("--parent", str(os.getpid())),
        )
        command = [sys.executable, "-m", __name__, *where, self._address]
        try:
            with log.open("wb") as errors:
                self.writer = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    # Ctrl-C is for the stage, which then says how it ended.
                    start_new_session=True,
                    env=os.environ | _PATIENCE,
                )
        except OSError as error:
            print(f"{self._address} is not live in MLflow: {error}", file=sys.stderr)
            self._start_after_s = float("inf")


@contextmanager
def live_figures(workspace: Workspace, campaign: str, address: str) -> Iterator[LiveFigures]:
    """Those of a stage while the block lasts."""
    live = LiveFigures(workspace, campaign, address)
    end: End = "FAILED"
    try:
        yield live
        end = "FINISHED"
    finally:
        live.close(end)


def live_file(workspace: Workspace, address: str) -> Path:
    """The lines that a stage notes, the last time it ran."""
    return workspace.scratch_dir / "live" / f"{address.replace('@', '-')}.jsonl"


@dataclass
class _LiveRun:
    """Writes a stage's lines into its run, which is made at the first of them."""

    workspace: Workspace
    campaign: str
    address: str
    waiting: list[dict[str, Any]] = field(default_factory=list)
    end: str | None = None
    _run_id: str | None = None

    def take(self, lines: Sequence[str]) -> None:
        """Lines that were noted since."""
        for line in lines:
            entry = json.loads(line)
            if "end" in entry:
                self.end = str(entry["end"])
            else:
                self.waiting.append(entry)

    def write(self) -> None:
        """Write all that waits. Raises `LineageError` where the store cannot be had, with nothing
        lost."""
        with open_store(self.workspace) as client:
            if self._run_id is None:
                self._run_id = self._new_run(client)
            metrics = self._metrics()
            for start in range(0, len(metrics), _MOST_AT_ONCE):
                client.log_batch(self._run_id, metrics=metrics[start : start + _MOST_AT_ONCE])
            self.waiting.clear()
            if self.end is not None:
                client.set_terminated(self._run_id, self.end)

    def _metrics(self) -> list[Any]:
        """Named as the record names the training curve: 'train/loss'."""
        from mlflow.entities import Metric

        stage = self.address.partition("@")[0]
        return [
            Metric(f"{stage}/{name}", float(value), entry["at_ms"], entry["step"])
            for entry in self.waiting
            for name, value in entry["values"].items()
            if name != "step"
        ]

    def _new_run(self, client: "MlflowClient") -> str:
        """Instead of those that this stage of this workspace had before."""
        experiment_id = self._experiment_id(client)
        tags = {
            "distil.role": "live",
            "distil.campaign": self.campaign,
            "distil.stage": self.address,
            "distil.workspace": _digest(str(self.workspace.root)),
        }
        same = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        for run in client.search_runs([experiment_id], same):
            client.delete_run(run.info.run_id)
        note = "Written while the stage works. Its record is made when it has finished."
        return str(
            client.create_run(
                experiment_id,
                start_time=self.waiting[0]["at_ms"] if self.waiting else None,
                run_name=self.address,
                tags=tags | {_internals.NOTE_TAG: note},
            ).info.run_id
        )

    def _experiment_id(self, client: "MlflowClient") -> str:
        name = live_experiment(self.campaign)
        if client.get_experiment_by_name(name) is None:
            root = artifact_root(self.workspace, client.tracking_uri)
            location = f"{root}/{self.campaign}-live" if root else None
            with allow_existing():
                client.create_experiment(name, artifact_location=location)
        experiment = client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            raise LineageError(f"MLflow experiment {name!r} was deleted: nothing is live there")
        return str(experiment.experiment_id)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _follow(live: _LiveRun, parent: int) -> None:
    """Until the stage has ended or its process is gone."""
    os.nice(10)
    with live_file(live.workspace, live.address).open(encoding="utf-8") as file:
        while True:
            # Asked first, so that what a process wrote before its end is read after it.
            is_alone = os.getppid() != parent
            live.take(_whole_lines(file))
            if is_alone and live.end is None:
                live.end = "KILLED"
            try:
                if live.waiting or live.end is not None:
                    live.write()
            except LineageError as error:
                print(error, file=sys.stderr, flush=True)
            if live.end is not None:
                return
            time.sleep(_POLL_S)


def _whole_lines(file: IO[str]) -> list[str]:
    """What was appended, without a line that is being written."""
    lines: list[str] = []
    while True:
        place = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(place)
            return lines
        lines.append(line)


def main() -> None:
    """Follow the stage that started this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--campaign", required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    workspace = Workspace(arguments.workspace)
    _follow(_LiveRun(workspace, arguments.campaign, arguments.address), arguments.parent)


if __name__ == "__main__":
    main()
