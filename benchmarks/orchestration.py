"""Seconds an iteration takes beside its stages' own work, after 1, 10 and 50 iterations.

`python -m benchmarks.orchestration` runs a small campaign in a temporary folder through the flow,
in one process with its own Prefect server as `make run` does, and splits each iteration's seconds:
the stages' bodies, DVC around them, the git snapshot, the record in MLflow, and the rest, which is
Prefect. The peer is `dvc repro --force` of the same six stages, which starts a process for each
and records nothing in MLflow or Prefect.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.faults.scene import PROJECT, create, environment
from benchmarks.measure import machine, markdown_table
from distil_core.workspace import Workspace

HISTORY = (1, 10, 50)
NEIGHBOURS = 3
"""How many iterations a figure is the median of: the named one and those after it."""

PARTS = ("bodies", "dvc", "snapshot", "mlflow", "prefect")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description=__doc__)
    parser.add_argument("--history", type=int, nargs="+", default=list(HISTORY), metavar="N")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments.history)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "campaign")
        create(root)
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        params["num_iterations"] = max(arguments.history) + NEIGHBOURS - 1
        (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        command = [sys.executable, "-m", "benchmarks.orchestration", "--child", "--history"]
        subprocess.run(
            [*command, *map(str, arguments.history)],
            cwd=root,
            env=environment({"PYTHONPATH": str(PROJECT), "PREFECT_LOGGING_LEVEL": "ERROR"}),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        found = json.loads((root / "orchestration.json").read_text(encoding="utf-8"))
    print(f"{machine()}; each figure the median of {NEIGHBOURS} iterations.\n")
    print(table(found))


def table(found: Sequence[dict[str, float]]) -> str:
    """One row for each length of history. found: seconds by part, of each."""
    rows = []
    for one in found:
        added = sum(one[part] for part in PARTS[1:])
        rows.append(
            [
                f"{one['history']:.0f}",
                *(f"{one[part]:.2f}" for part in PARTS[1:]),
                f"**{added:.2f}**",
                f"{one['added_cpu']:.2f}",
                f"{one['repro']:.2f}",
                f"{one['repro'] / added:.1f}",
                f"{one['bodies']:.2f}",
            ]
        )
    header = ["history", "DVC s", "snapshot s", "MLflow s", "Prefect s", "added s", "its CPU s"]
    return markdown_table([*header, "`dvc repro` adds s", "ratio", "stages' own s"], rows)


def medians(measured: Mapping[int, Mapping[str, float]], first: int) -> dict[str, float]:
    """Of each part's seconds, over `NEIGHBOURS` iterations from `first` on."""
    near = [measured[first + offset] for offset in range(NEIGHBOURS)]
    return {part: median(one[part] for one in near) for part in (*PARTS, "added_cpu")}


def split(
    total: float, cpu: float, stages: float, bodies: float, snapshot: float, mlflow: float
) -> dict[str, float]:
    """An iteration's seconds by part. total, cpu: of the flow and of its process; stages: of the
    calls that run them, bodies: of the work in those alone."""
    return {
        "bodies": bodies,
        "dvc": stages - bodies,
        "snapshot": snapshot,
        "mlflow": mlflow,
        "prefect": total - stages - snapshot - mlflow,
        # A body of one thread has no more processor seconds than seconds.
        "added_cpu": max(0.0, cpu - bodies),
    }


def _child(history: Sequence[int]) -> None:
    """Run the campaign in the working directory; seconds by part to orchestration.json."""
    from distil_core.campaign.iterations import restart
    from distil_flows._internals import disable_heartbeats
    from distil_flows.api_server import prefect_api
    from distil_flows.stages import stage_versions

    workspace = Workspace(Path.cwd())
    measured: dict[int, dict[str, float]] = {}
    repro: dict[int, float] = {}
    with prefect_api(workspace) as api:
        iterations = restart(workspace, stage_versions())
        api.wait_until_ready()
        with disable_heartbeats():
            for iteration in iterations:
                measured[iteration] = _measured(workspace, iteration)
                if iteration in history:
                    repro[iteration] = _repro(workspace, iteration)
    found = [
        {"history": length, "repro": repro[length], **medians(measured, length)}
        for length in history
    ]
    (workspace.root / "orchestration.json").write_text(json.dumps(found), encoding="utf-8")


def _measured(workspace: Workspace, iteration: int) -> dict[str, float]:
    """Seconds by part of one iteration through the flow, and processor seconds of this process
    beside the bodies'."""
    module: Any = import_module("distil_flows.iteration")
    seconds = {"snapshot": 0.0, "mlflow": 0.0}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.monotonic()
            try:
                return function(*arguments, **options)
            finally:
                seconds[name] += time.monotonic() - started

        return call

    snapshot, record = module.ensure_snapshot, module.record_iteration
    module.ensure_snapshot = timed("snapshot", snapshot)
    module.record_iteration = timed("mlflow", record)
    started, started_cpu = time.monotonic(), time.process_time()
    try:
        summary = module.distil_iteration(iteration, return_state=True).result()
    finally:
        module.ensure_snapshot, module.record_iteration = snapshot, record
    total, cpu = time.monotonic() - started, time.process_time() - started_cpu
    bodies = _bodies_s(workspace, iteration)
    stages = sum(outcome.seconds for outcome in summary.stages)
    return split(total, cpu, stages, bodies, **seconds)


def _repro(workspace: Workspace, iteration: int) -> float:
    """Seconds that `dvc repro` adds to the bodies of the same stages."""
    from distil_core.pipeline import stage_addresses

    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item"]
    started = time.monotonic()
    subprocess.run(
        [*command, *stage_addresses(iteration)],
        cwd=workspace.root,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - started - _bodies_s(workspace, iteration)


def _bodies_s(workspace: Workspace, iteration: int) -> float:
    noted = json.loads(workspace.timings_file(iteration).read_text(encoding="utf-8"))
    return float(sum(noted.values()))


if __name__ == "__main__":
    main()
