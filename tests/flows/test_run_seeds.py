"""`distil run --seeds` and `distil compare`, as commands on a tiny campaign (4 min)."""

import os
import signal
import subprocess
from pathlib import Path

import front_door_scratch as scratch
import pytest
import yaml

from distil_core.workspace import Workspace

LOG = ".distil/run.log"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    params = scratch.tiny(yaml.safe_load((scratch.PROJECT / "params.yaml").read_text("utf-8")))
    params.update(seed=5)
    return scratch.make_workspace(tmp_path_factory.mktemp("seeds") / "workspace", params)


def run_seeds(workspace: Workspace, *arguments: str) -> tuple[int, str]:
    command = ("distil_flows.cli", "run", "--seeds", "2", *arguments)
    return scratch.run(workspace.root, *command, COLUMNS="200")


def log(workspace: Workspace, seed: int) -> str:
    file = workspace.root / "seeds" / f"seed-{seed}" / LOG
    return file.read_text(encoding="utf-8") if file.exists() else ""


def running_below(root: Path) -> list[int]:
    """Processes that work in a folder below."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                here = Path(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if here.is_relative_to(root):
                found.append(int(entry.name))
    return found


def test_an_interruption_ends_all_and_leaves_what_was_finished(workspace: Workspace) -> None:
    arguments = ("run", "--seeds", "2", "--parallel", "2")
    process = scratch.start(workspace.root, "distil_flows.cli", *arguments, COLUMNS="200")
    try:
        scratch.wait_for(
            "both seeds have problems",
            lambda: all("problems" in log(workspace, seed) for seed in (5, 6)),
        )
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, output
    assert "Interrupted. What was finished is kept" in output
    assert all("Interrupted" in log(workspace, seed) for seed in (5, 6))
    assert running_below(workspace.root / "seeds") == []


def test_a_seed_that_fails_does_not_hide_the_other(workspace: Workspace) -> None:
    """A file where a folder has to be: the second seed cannot write its first artifact."""
    second = workspace.root / "seeds/seed-6"
    problems = second / "data/problems"
    if problems.exists():
        problems.rename(second / "problems-aside")
    (second / "dvc.lock").unlink(missing_ok=True)
    problems.write_text("no folder")
    status, output = run_seeds(workspace)
    assert status == 1, output
    assert "seed 5" in output
    assert f"Seed 6 failed; {second / LOG} ends with:" in output
    assert "data/problems" in output.partition("ends with:")[2]
    assert "chain-arithmetic, seeds 5 [95% intervals over problems]" in output
    problems.unlink()


def test_asked_again_it_goes_on_and_reports_the_means(workspace: Workspace) -> None:
    status, output = run_seeds(workspace)
    assert status == 0, output
    assert "2 seeds in" in output
    assert "0 of them made now" in output
    assert " ran " not in log(workspace, 5)
    assert "train@001      ran" in log(workspace, 6)
    assert "chain-arithmetic, seeds 5, 6 [95% t-intervals over seeds]" in output
    page = (workspace.root / "seeds/report.html").read_text(encoding="utf-8")
    assert "champions of 2 seeds: mean" in page
    assert "In MLflow: " in output
    for seed in (5, 6):
        done = subprocess.run(
            ["git", "status", "--porcelain", "--", "params.yaml", "dvc.yaml"],
            cwd=workspace.root / "seeds" / f"seed-{seed}",
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == ""


def test_what_the_seeds_made_is_in_one_cache(workspace: Workspace) -> None:
    assert not (workspace.root / "seeds/seed-5/.dvc/cache").exists()
    assert any((workspace.root / ".dvc/cache/files/md5").iterdir())


def test_the_seeds_are_compared_with_each_other_and_with_what_was(workspace: Workspace) -> None:
    """One side of two seeds, a single one, and one as a snapshot of its repository has it."""
    snapshot = "refs/distil/chain-arithmetic/001"
    sides = ("seeds", "one=seeds/seed-5", f"then=seeds/seed-5@{snapshot}")
    status, output = scratch.run(
        workspace.root / "data", "distil_flows.cli", "compare", "../seeds", COLUMNS="200"
    )
    assert status == 0, output
    assert (workspace.root / "data/comparison.html").exists()
    arguments = ("compare", *sides, "--output", "page.html", "--no-mlflow")
    status, output = scratch.run(workspace.root, "distil_flows.cli", *arguments, COLUMNS="200")
    assert status == 0, output
    assert "one side is a single run" in output
    page = (workspace.root / "page.html").read_text(encoding="utf-8")
    assert snapshot in page
    status, output = scratch.run(
        workspace.root,
        *("distil_flows.cli", "compare", *sides[1:], "--output", "page.html"),
        COLUMNS="200",
    )
    assert status == 0, output
    assert "paired by problem" in output
    assert "then against one, best policies: pass@1 +0.000 [+0.000, +0.000]" in output
    assert "In MLflow: " in output


def test_other_settings_are_not_mixed_in(workspace: Workspace) -> None:
    text = workspace.params_file.read_text(encoding="utf-8")
    workspace.params_file.write_text(text.replace("num_steps: 2\n", "num_steps: 3\n"))
    status, output = run_seeds(workspace)
    assert status == 1
    assert "was made with other settings than params.yaml has now" in " ".join(output.split())
    workspace.params_file.write_text(text)
