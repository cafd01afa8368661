"""`distil lineage` of what dvc.lock no longer has: by the snapshots of before. About 20 s."""

import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow_scratch import lock_all, make_campaign, rerun, write_listing

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import locked_outputs
from distil_core.lineage.evidence.snapshots import ensure_snapshots
from distil_core.lineage.mlflow.record import record_all, record_iteration
from distil_core.lineage.mlflow.store import open_store
from distil_core.lineage.snapshot.take import ensure_snapshot
from distil_core.lineage.view.read import read_lineage
from distil_core.lineage.view.text import as_text
from distil_core.workspace import Workspace

NAME = "chain-arithmetic"


def md5(workspace: Workspace, address: str, path: str) -> str:
    return locked_outputs(workspace, address)[path].md5


def run_again(workspace: Workspace, iterations: range) -> None:
    """As after a restart with other settings: other rollouts, tables and policies."""
    for iteration in iterations:
        shutil.copy(workspace.consultations_file(iteration), workspace.rollouts_file(iteration))
        (workspace.feedback_dir(iteration) / "00001.parquet").unlink()
        for folder in (workspace.policy_dir(iteration), workspace.handover_dir(iteration)):
            (folder / "model.safetensors").write_bytes(bytes([100 + iteration]) * 4096)
    lock_all(workspace, iterations)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Before: iterations 1 and 2 as they were first."""
    return make_campaign(tmp_path_factory.mktemp("old") / "campaign", 2)


@pytest.fixture(scope="module")
def recorded(old: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Restarted: versions 1 to 3 are of before, 4 and 5 of now. As a flow does, each iteration
    had its snapshot when it was done. Read only."""
    workspace = make_campaign(tmp_path_factory.mktemp("restarted") / "campaign", 2)
    lock = (workspace.root / "dvc.lock").read_text()
    (workspace.root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    for iteration in range(3):
        lock_all(workspace, [iteration])
        ensure_snapshot(workspace, iteration)
        record_iteration(workspace, iteration)
    assert (workspace.root / "dvc.lock").read_text() == lock
    for iteration in (1, 2):
        run_again(workspace, range(iteration, iteration + 1))
        ensure_snapshot(workspace, iteration)
        record_iteration(workspace, iteration)
    return workspace


@pytest.fixture
def restarted(recorded: Workspace, tmp_path: Path) -> Workspace:
    """The same, to be changed."""
    return Workspace(shutil.copytree(recorded.root, tmp_path / "campaign", symlinks=True))


def test_an_earlier_version_is_as_it_was(old: Workspace, recorded: Workspace) -> None:
    lineage = read_lineage(recorded, f"{NAME}/3")
    assert lineage.source.startswith(f"dvc.lock of snapshot refs/distil/{NAME}/002 (")
    assert lineage.disagreements == ()
    assert {node.path: node.md5 for node in lineage.nodes} == {
        node.path: md5(old, node.stage, node.path) for node in lineage.nodes
    }
    text = as_text(lineage)
    assert f"policy 002 [{NAME}/3] <- feedback 002, policy 001" in text
    assert f"policy 001 [{NAME}/2]" in text
    assert f"policy 000 (base) [{NAME}/1]" in text


def test_the_present_version_is_of_dvc_lock(recorded: Workspace) -> None:
    lineage = read_lineage(recorded, f"{NAME}@champion")
    assert (lineage.source, lineage.disagreements) == ("dvc.lock", ())
    assert f"policy 002 [{NAME}/5 @champion @newest]" in as_text(lineage)


def test_an_earlier_digest_leads_to_all_that_was_made_from_it(
    old: Workspace, recorded: Workspace
) -> None:
    """The snapshot of its own iteration knows nothing of the one after."""
    feedback = md5(old, "tabulate@001", "data/iterations/001/feedback")
    lineage = read_lineage(recorded, feedback[:10])
    assert lineage.asked.md5 == feedback
    assert lineage.disagreements == ()
    text = as_text(lineage)
    assert f"directly: policy 001 [{NAME}/2]" in text
    assert f"other artifacts: policy 002 [{NAME}/3]" in text


@pytest.mark.parametrize("forward", [False, True])
def test_an_earlier_version_forward_and_back(recorded: Workspace, forward: bool) -> None:
    lineage = read_lineage(recorded, f"{NAME}/2", forward)
    assert lineage.disagreements == ()
    assert (f"policy 002 [{NAME}/3]" in as_text(lineage)) == forward


def test_without_the_snapshots(old: Workspace, restarted: Workspace) -> None:
    git = ["git", "-C", str(restarted.root)]
    for iteration in (1, 2):
        for refs in ("refs/distil", "refs/tags/distil"):
            ref = f"{refs}/{NAME}/{iteration:03d}"
            subprocess.run([*git, "update-ref", "-d", ref], check=True)
    subprocess.run([*git, "gc", "-q", "--prune=now"], check=True)
    lineage = read_lineage(restarted, f"{NAME}/3")
    assert lineage.source == "dvc.lock"
    (problem,) = lineage.disagreements
    assert "version 3 was recorded of iteration 2" in problem
    assert "no snapshot of it is here" in problem
    policy = md5(old, "train@002", "data/iterations/002/policy")
    with pytest.raises(LineageError, match=r"is of iteration 2 .*git fetch origin 'refs/distil"):
        read_lineage(restarted, policy[:12])


def test_a_snapshot_of_something_else(restarted: Workspace) -> None:
    """The tag leads to a commit whose dvc.lock is not what was recorded."""
    with open_store(restarted) as client:
        version = client.get_model_version(NAME, "3")
        newest = client.get_model_version(NAME, "5")
        client.set_tag(
            version.run_id, "distil.snapshot_commit", newest.tags["distil.snapshot_commit"]
        )
    (problem,) = read_lineage(restarted, f"{NAME}/3").disagreements
    assert "no snapshot of it is here" in problem


def test_a_restart_with_fewer_iterations(tmp_path: Path) -> None:
    """What dvc.lock keeps of iterations that are no more is nothing to complain of."""
    workspace = make_campaign(tmp_path / "campaign", 2)
    ensure_snapshots(workspace)
    record_all(workspace)
    old_policy = md5(workspace, "train@002", "data/iterations/002/policy")
    write_listing(workspace, 1)
    workspace.frozen_params_file(2).unlink()
    run_again(workspace, range(1, 2))
    ensure_snapshots(workspace)
    record_all(workspace)
    lineage = read_lineage(workspace, "policy-001")
    assert (lineage.source, lineage.disagreements) == ("dvc.lock", ())
    with pytest.raises(LineageError, match="Expected a registered version"):
        read_lineage(workspace, "policy-002")
    earlier = read_lineage(workspace, old_policy)
    assert earlier.source.startswith("dvc.lock of snapshot")
    assert f"policy 002 [{NAME}/3]" in as_text(earlier)


def test_what_is_stale_later_is_no_matter(tmp_path: Path) -> None:
    """Amid a restart, iteration 2 is still that of before: said of it, and not of the first."""
    workspace = make_campaign(tmp_path / "campaign", 2)
    record_all(workspace)
    run_again(workspace, range(1, 2))
    record_iteration(workspace, 1)
    assert read_lineage(workspace, "policy-001").disagreements == ()
    problems = " ".join(read_lineage(workspace, "policy-002").disagreements)
    assert "Bring it up to date with `dvc repro sample@002`" in problems


def test_an_iteration_that_is_not_here(tmp_path: Path) -> None:
    """Recorded and registered, then dvc.lock went back to an older commit's."""
    workspace = make_campaign(tmp_path / "campaign", 2)
    record_all(workspace)
    write_listing(workspace, 1)
    with pytest.raises(LineageError, match=r"version 3 is of iteration 2, which dvc.lock does not"):
        read_lineage(workspace, f"{NAME}/3")
    text = workspace.metrics_file(1).read_text().replace("0.01", "0.02")
    rerun(workspace, "evaluate@001", workspace.metrics_file(1), text)
    (problem,) = read_lineage(workspace, f"{NAME}/2").disagreements[:1]
    assert "version 2 was recorded of iteration 1 with lock digest" in problem
