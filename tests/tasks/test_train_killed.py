"""`python -m distil_tasks.train` killed at random moments ends in the bytes of a run left alone."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from pipeline_scratch import CHANGES, PROJECT

from distil_core.campaign.load import load_iteration_params
from distil_core.progress import no_progress
from distil_core.workspace import Workspace
from distil_tasks import base, consult, problems, sample, tabulate

NUM_KILLS = 3


def make_workspace(root: Path) -> Workspace:
    """Everything that iteration 1 trains on, with a state kept after each of many steps."""
    workspace = Workspace(root)
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for section, changes in CHANGES.items():
        values[section] |= changes
    values["train"] |= {"num_steps": 150, "average_decay": 0.9}
    values["resume"] = {"checkpoint_every_s": 0.0}
    for iteration in (0, 1):
        path = workspace.frozen_params_file(iteration)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({**values, "iteration": iteration, "stage_versions": {}}))
    torch.set_num_threads(1)
    for stage in (problems, base):
        stage.body(workspace, load_iteration_params(workspace, 0), no_progress)
    for stage in (sample, consult, tabulate):
        stage.body(workspace, load_iteration_params(workspace, 1), no_progress)
    return workspace


def start(workspace: Workspace) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "distil_tasks.train", "--iteration", "1"],
        cwd=workspace.root,
        # As `dvc repro` starts it: the work only.
        env=os.environ
        | {"DVC_STAGE": "train@001", "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outputs(workspace: Workspace) -> dict[str, bytes]:
    files = [
        *workspace.policy_dir(1).rglob("*"),
        workspace.train_curve_file(1),
    ]
    return {workspace.relative(path): path.read_bytes() for path in sorted(files) if path.is_file()}


def test_killed_again_and_again_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    undisturbed = make_workspace(tmp_path / "undisturbed")
    killed = Workspace(tmp_path / "killed")
    shutil.copytree(undisturbed.root, killed.root)
    output, _ = (process := start(undisturbed)).communicate(timeout=300)
    assert process.returncode == 0, output
    state = killed.resume_file("train", 1)
    said, num_killed = [], 0
    draw = random.Random(4)
    for _ in range(NUM_KILLS):
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = start(killed)
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.4))
        process.kill()
        output, _ = process.communicate(timeout=60)
        num_killed += process.returncode < 0
        said.append(output)
    assert num_killed == NUM_KILLS, said
    assert "training goes on after step" in said[1]
    output, _ = (process := start(killed)).communicate(timeout=300)
    assert process.returncode == 0, output
    assert "training goes on after step" in output
    assert outputs(killed) == outputs(undisturbed)
    assert len(outputs(killed)) > 5
    assert not state.exists()
    assert not list(state.parent.iterdir()), "nothing half-written is left"


_KILLED_AT_A_WRITE = """\
import os, signal, sys
from pathlib import Path
from distil_core.campaign.load import load_iteration_params
from distil_core.progress import no_progress
from distil_core.workspace import Workspace
from distil_tasks import train

name = sys.argv[1]
write = getattr(train, name)

def write_and_die(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(train, name, write_and_die)
workspace = Workspace(Path.cwd())
train.body(workspace, load_iteration_params(workspace, 1), no_progress)
"""


def test_a_policy_killed_between_its_files_is_not_visible(tmp_path: Path) -> None:
    """Weights are written first, the model card last; the folder has its name only after both."""
    workspace = make_workspace(tmp_path / "killed")
    for name in ("write_policy", "write_text"):
        done = subprocess.run(
            [sys.executable, "-c", _KILLED_AT_A_WRITE, name],
            cwd=workspace.root,
            env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not workspace.policy_dir(1).exists()
        (half,) = workspace.policy_dir(1).parent.glob(".policy.*.partial")
        assert any(half.iterdir())
    output, _ = (process := start(workspace)).communicate(timeout=300)
    assert process.returncode == 0, output
    assert (workspace.policy_dir(1) / "README.md").is_file()
    assert not list(workspace.policy_dir(1).parent.glob(".policy.*"))
