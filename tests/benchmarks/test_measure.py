"""Processes in turn, their figures and memory; tables that compare the same work only."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import measure
from benchmarks.measure import Run, markdown_table, median_of, minimum_of, run_in_turn, run_once
from benchmarks.peer_iteration.__main__ import OURS, differences, report

PROGRAM = (
    "import json, os, sys; from benchmarks.measure import own_peak_mb; "
    "kept = bytearray(int(sys.argv[1]) * 2**20); print('noise'); "
    "print(json.dumps({'size': len(kept), 'threads': os.environ['OMP_NUM_THREADS'], "
    "'peak_mb': own_peak_mb()}))"
)


def command(megabytes: int) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(megabytes)]


def test_each_process_has_its_own_peak() -> None:
    runs = run_in_turn({"small": command(1), "large": command(200)}, repeats=2, num_threads=3)
    assert [len(found) for found in runs.values()] == [2, 2]
    assert runs["large"][0].figures == {"size": 200 * 2**20, "threads": "3"}
    difference = minimum_of(runs["large"], lambda run: run.peak_mb) - minimum_of(
        runs["small"], lambda run: run.peak_mb
    )
    assert 180 < difference < 220
    assert all(run.cpu_s > 0 for found in runs.values() for run in found)


def test_a_failing_process_says_why() -> None:
    with pytest.raises(SystemExit, match=r"failed:\n(.|\n)*ZeroDivisionError"):
        run_once([sys.executable, "-c", "1 / 0"])


def test_without_peers_it_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr(measure, "PEERS_PYTHON", python)
    with pytest.raises(SystemExit, match=rf"no {python}: `make peers` installs"):
        measure.require_peers()
    python.touch()
    assert measure.require_peers() == str(python)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_without_a_gpu_it_says_what_to_do() -> None:
    with pytest.raises(SystemExit, match=r"--device cuda needs .*finds none: leave the option out"):
        measure.require_device("cuda")
    measure.require_device("cpu")


def test_least_and_middle() -> None:
    runs = [Run(cpu_s, 0.0, {}) for cpu_s in (3.0, 1.0, 2.0)]
    assert minimum_of(runs, lambda run: run.cpu_s) == 1.0
    assert median_of(runs, lambda run: run.cpu_s) == 2.0


def test_markdown() -> None:
    assert markdown_table(["", "s"], [["a", "1"]]) == "|  | s |\n| --- | ---: |\n| a | 1 |"


def figures(**changes: Any) -> dict[str, Any]:
    done = {"generations": 1, "rollouts": 8, "expert_rows": 8, "steps": 2}
    took = {"import_s": 1.0, "set_up_s": 0.5, "work_s": 2.0}
    stages = {f"{stage}_s": 0.5 for stage in ("sample", "consult", "tabulate", "train")}
    tokens = {"response_tokens": 100, "expert_tokens": 300, "positions": 900}
    return {**done, **tokens, **took, **stages, **changes}


def test_other_work_is_found_and_similar_lengths_are_not() -> None:
    ours = Run(3.0, 500.0, figures())
    similar = Run(6.0, 400.0, figures(response_tokens=95, work_s=5.0))
    assert differences({OURS: [ours], "peer": [similar]}) == []
    fewer = Run(6.0, 400.0, figures(steps=1, expert_tokens=100))
    found = differences({OURS: [ours], "peer": [fewer]})
    assert found == [
        "peer: steps 1, DistIL 2",
        "peer: expert_tokens 100, DistIL 300",
    ]


def test_ratios_are_of_the_peer_to_ours() -> None:
    runs = {
        OURS: [Run(3.0, 500.0, figures())],
        "peer": [Run(6.0, 400.0, figures(work_s=5.0)), Run(6.5, 450.0, figures(work_s=7.0))],
    }
    lines = report(runs, 2).splitlines()
    peer = next(line for line in lines if line.startswith("| peer"))
    assert peer == "| peer | 5.00 | 6.00 | 2.50 | 1.5 | 6.0 | 400 | 0.80 |"
