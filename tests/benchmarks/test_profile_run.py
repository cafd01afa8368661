"""Stacks of py-spy become seconds by part; a real process is profiled (3 s)."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import profile_run
from benchmarks.profile_run import (
    PREFECT,
    RATE_HZ,
    STARTING,
    Stack,
    functions_table,
    is_arithmetic,
    main_thread,
    part_of,
    parts_table,
    require_py_spy,
)

RUN = (
    "<module> (distil_flows/commands/run.py:120)",
    "_run (distil_flows/commands/run.py:76)",
    "engine (prefect/flow_engine.py:1)",
)
STAGE = (*RUN, "run_stage (distil_core/lineage/dvc/stage.py:90)")
TRAIN = (*STAGE, "body (distil_tasks/train.py:40)", "train (distil_core/training/trainer.py:77)")
BACKWARD = (*TRAIN, "backward (torch/autograd/graph.py:979)")
IMPORT = (
    "_find_and_load (<frozen importlib._bootstrap>:1176)",
    "<module> (distil_tasks/base.py:3)",
)


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        ((), STARTING),
        (RUN, PREFECT),
        (
            (*RUN[:2], "_wait_until_ready (distil_flows/api_server.py:170)"),
            "waiting for Prefect's server",
        ),
        (STAGE, "DVC around the stages"),
        (TRAIN, "stage train"),
        (BACKWARD, "stage train"),
        ((*RUN, "record_iteration (distil_core/lineage/mlflow/record.py:1)"), "MLflow's record"),
        ((*RUN, "write_report (distil_core/report/write.py:20)", BACKWARD[-1]), "report"),
        ((*RUN, *IMPORT), "importing DistIL's own modules"),
        ((*RUN, *IMPORT, "<module> (torch/__init__.py:1)", IMPORT[0]), "importing torch"),
        ((*TRAIN, *IMPORT, "<module> (six.py:1)", "<module> (a/b.py:1)"), "importing six"),
    ],
)
def test_the_innermost_known_frame_says_the_part(frames: tuple[str, ...], part: str) -> None:
    assert part_of(frames) == part


def test_arithmetic_is_torch_at_work_and_not_its_import() -> None:
    assert is_arithmetic(BACKWARD)
    assert not is_arithmetic(TRAIN)
    assert not is_arithmetic((*RUN, *IMPORT, "<module> (torch/nn/modules/linear.py:9)"))


def test_only_the_main_thread_counts() -> None:
    lines = [
        "thread (7): MainThread;a (x.py:1);b (y.py:2) 30",
        "thread (7) 2",
        "thread (8): EventsWorkerThread;a (x.py:1) 500",
        "thread (9) 5",
    ]
    assert main_thread(lines) == [Stack(("a (x.py:1)", "b (y.py:2)"), 30), Stack((), 2)]
    with pytest.raises(SystemExit, match="no main thread"):
        main_thread(lines[2:])


def test_seconds_by_part_add_up_and_small_parts_are_one() -> None:
    stacks = [
        Stack(BACKWARD, 6 * RATE_HZ),
        Stack(TRAIN, 2 * RATE_HZ),
        Stack(STAGE, 2 * RATE_HZ),
        Stack((), 1),
    ]
    assert parts_table(stacks).splitlines()[2:] == [
        "| stage train | 8.00 | 79.8% | 6.00 |",
        "| DVC around the stages | 2.00 | 20.0% |  |",
        "| the rest | 0.02 | 0.2% |  |",
        "| **all** | 10.02 | 100.0% | 6.00 |",
    ]
    assert functions_table(stacks).splitlines()[2:] == [
        "| stage train: `train (distil_core/training/trainer.py)` | 2.00 |",
        "| DVC around the stages: `run_stage (distil_core/lineage/dvc/stage.py)` | 2.00 |",
    ]


def test_without_the_profiler_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_run.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match=r"no .*py-spy: `make check` installs it"):
        require_py_spy()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere py-spy needs an administrator")
def test_a_real_process(tmp_path: Path) -> None:
    program = tmp_path / "busy.py"
    program.write_text(
        "import threading, time\n\ndef busy():\n    end = time.monotonic() + 4\n"
        "    while time.monotonic() < end:\n        pass\n\nbusy()\n"
    )
    stacks_file = tmp_path / "stacks.txt"
    command = [*profile_run.record_command(stacks_file), sys.executable, str(program)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode and "permi" in done.stderr.lower():
        pytest.skip(f"this machine does not let py-spy look: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    stacks = main_thread(stacks_file.read_text().splitlines())
    busy = [stack for stack in stacks if stack.frames and "busy (" in stack.frames[-1]]
    assert sum(stack.count for stack in busy) > 5
