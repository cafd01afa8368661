"""Scratch workspaces for tests: a real git and DVC repository with the project's dvc.yaml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dvc_fake_stages
import yaml

from distil_core.campaign.listing import refresh_links
from distil_core.lineage.dvc.stage import StageOutcome, run_stage
from distil_core.pipeline import stage_addresses
from distil_core.source_code import BUILT_IN_FILE
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
STAGE_NAMES = tuple(dvc_fake_stages.OUTPUTS)


def make_workspace(root: Path, num_iterations: int = 1) -> Workspace:
    """A committed workspace with frozen settings and stand-in stages; nothing has run."""
    workspace = Workspace(root)
    for name in ("dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/.gitignore", "data/.gitignore"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    shutil.copytree(PROJECT / ".dvc/plots", root / ".dvc/plots")
    (root / ".gitignore").write_text("/.distil/\n__pycache__/\n")
    (root / "tasks").mkdir()
    (root / "tasks/__init__.py").touch()
    (root / "distil_tasks").symlink_to("tasks")
    shutil.copy(dvc_fake_stages.__file__, root / "tasks/fake_stages.py")
    for name in STAGE_NAMES:
        (root / f"tasks/{name}.py").write_text(
            "from distil_tasks.fake_stages import main\n\nmain()\n"
        )
    for iteration in range(num_iterations + 1):
        freeze(workspace, iteration, seed=1)
    list_iterations(workspace, num_iterations)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "-c", "user.name=test", "-c", "user.email=t@example.org", "commit", "-qm", "start")
    return workspace


def freeze(workspace: Workspace, iteration: int, seed: int) -> None:
    """Write frozen settings with all the keys that dvc.yaml names."""
    sections = ("compute", "context", "base", "train", "gate")
    settings = {
        "campaign": "scratch",
        "seed": seed,
        **{section: {"some": 1e-05} for section in sections},
        "problems": {"source": {"name": "fake"}, "generalisation": None},
        "tabulate": {"expert": {"name": "fake"}},
        "evaluate": {"num_bootstrap": 100},
        "consult": {"verifier": "fake"},
        "sample": {"engine": {"name": "fake"}, "num_prompts": 4},
        "iteration": iteration,
        "stage_versions": dict.fromkeys(STAGE_NAMES, 1),
    }
    path = workspace.frozen_params_file(iteration)
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def list_iterations(
    workspace: Workspace, num_iterations: int, curves: tuple[str, ...] = ()
) -> None:
    """Write iterations.yaml in the form the campaign commands give it."""
    policies = ["data/policy-000"] + [
        f"data/iterations/{i:03d}/policy" for i in range(1, num_iterations + 1)
    ]
    lines = [f"code: {code_entries('problems', 'base')}", "evaluations:"]
    for i, policy in enumerate(policies):
        lines.append(
            f'  "{i:03d}": {{params: iterations/{i:03d}.yaml, policy: {policy}, '
            f"expert_policy: {policies[0]}, code: {code_entries('evaluate')}}}"
        )
    lines.append("iterations:" if num_iterations else "iterations: {}")
    for i, policy in enumerate(policies[1:], start=1):
        before = f"data/iterations/{i - 1:03d}"
        parent = f"{before}/handover" if i > 1 else policies[0]
        tables = [f"{before}/{r}evaluation.parquet" for r in ("handover_", "champion_")]
        if i == 1:
            tables = [f"{before}/evaluation.parquet"] * 2
        lines.append(
            f'  "{i:03d}": {{params: iterations/{i:03d}.yaml, parent_policy: {parent}, '
            f"parent_evaluation: {tables[0]}, champion_evaluation: {tables[1]}, "
            f"expert_policy: {policies[0]}, policy: {policy}, "
            f"code: {code_entries('sample', 'consult', 'tabulate', 'train')}}}"
        )
    lines.append("curves:")
    for column in ("loss", "cross_entropy"):
        files = [
            f"data/iterations/{i:03d}/train_curve.csv: {column}"
            for i in range(1, num_iterations + 1)
            if column in curves
        ]
        lines.append(f"  {column}: {{{', '.join(files)}}}")
    files = [
        f"data/iterations/{i:03d}/pass_at_k.csv: pass_at_k"
        for i in range(num_iterations + 1)
        if curves
    ]
    lines.append(f"  pass_at_k: {{{', '.join(files)}}}")
    workspace.iterations_file.write_text("\n".join(lines) + "\n")
    refresh_links(workspace)


def code_entries(*stages: str) -> str:
    """Stages that use built-in components alone."""
    return f"{{{', '.join(f'{stage}: {BUILT_IN_FILE}' for stage in stages)}}}"


def run_fake(workspace: Workspace, address: str, force: bool = False) -> StageOutcome:
    """The stand-in stage, in this process."""
    return run_stage(
        workspace, address, lambda: dvc_fake_stages.write_outputs(workspace.root, address), force
    )


def addresses(num_iterations: int = 1) -> list[str]:
    """All stages in the order they run."""
    return [a for iteration in range(num_iterations + 1) for a in stage_addresses(iteration)]


def dvc(root: Path, *arguments: str) -> str:
    """What the DVC command line says; fails the test when it fails."""
    return _checked([sys.executable, "-m", "dvc", *arguments], root)


def git(root: Path, *arguments: str) -> str:
    """What git says; fails the test when it fails."""
    return _checked(["git", *arguments], root)


def _checked(command: list[str], root: Path) -> str:
    environment = os.environ | {
        # `python` in dvc.yaml is the one that runs the tests, as in an activated environment.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
