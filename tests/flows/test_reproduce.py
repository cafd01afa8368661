"""`distil reproduce` on a real campaign, in processes of its own, as a user calls it."""

import subprocess
from pathlib import Path

import pytest
import yaml
from front_door_scratch import environment, make_workspace, run

from distil_core.workspace import Workspace
from distil_flows.commands.reproduce import DIFFERS

NAME = "chain-arithmetic"


def command(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        arguments, cwd=root, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small campaign that `make run` ran, its remote a folder beside it."""
    workspace = make_workspace(tmp_path_factory.mktemp("reproduce") / "campaign")
    command(workspace.root, "dvc", "remote", "add", "--default", "store", "../store")
    status, output = run(workspace.root, "distil_flows.cli", "run")
    assert status == 0, output
    return workspace


def test_a_finished_iteration_is_equal_to_the_bit_and_the_users_files_stay(
    campaign: Workspace,
) -> None:
    before = command(campaign.root, "git", "status", "--porcelain")
    lock = (campaign.root / "dvc.lock").read_bytes()
    status, output = run(campaign.root, "distil_flows.cli", "reproduce", f"{NAME}/1")
    assert status == 0, output
    assert "All 12 artifacts are equal to the recorded ones, to the bit." in output
    assert "Warning" not in output
    assert (campaign.root / "dvc.lock").read_bytes() == lock
    assert command(campaign.root, "git", "status", "--porcelain") == before


def test_from_scratch_in_a_fresh_clone_with_git_and_the_remote(
    campaign: Workspace, tmp_path: Path
) -> None:
    store = campaign.root.parent / "store"
    assert any(store.rglob("*"))
    clone = campaign.root.parent / "clone"
    command(tmp_path, "git", "clone", "-q", str(campaign.root), str(clone))
    command(clone, "git", "fetch", "-q", "origin", "refs/distil/*:refs/distil/*")
    for options in ([], ["--from-scratch"]):
        status, output = run(clone, "distil_flows.cli", "reproduce", f"{NAME}/1", *options)
        assert status == 0, output
        assert " NO" not in output


def test_other_kernels_are_seen_and_measured(campaign: Workspace) -> None:
    """As on another processor: torch without its vector instructions."""
    status, output = run(
        campaign.root,
        "distil_flows.cli",
        "reproduce",
        f"{NAME}/1",
        ATEN_CPU_CAPABILITY="default",
        MKL_CBWR="COMPATIBLE",
    )
    assert status == DIFFERS, output
    assert "NO" in output
    assert "model.safetensors: largest difference" in output


def test_with_the_vllm_engine(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "campaign")
    params = yaml.safe_load(workspace.params_file.read_text())
    # vLLM's CPU kernels need heads of 32 numbers or more.
    params["base"]["architecture"]["num_heads"] = 2
    params["sample"]["engine"] = {"name": "vllm", "options": {"mode": "in_process"}}
    workspace.params_file.write_text(yaml.safe_dump(params, sort_keys=False))
    status, output = run(workspace.root, "distil_flows.cli", "run")
    assert status == 0, output
    status, output = run(workspace.root, "distil_flows.cli", "reproduce", f"{NAME}/1")
    assert status == 0, output
    assert "All 12 artifacts are equal" in output


def test_what_cannot_be_reproduced_says_why(campaign: Workspace) -> None:
    status, output = run(campaign.root, "distil_flows.cli", "reproduce", f"{NAME}/7")
    assert status == 1
    assert f"there are: {NAME}/0, {NAME}/1" in output
    status, output = run(campaign.root, "distil_flows.cli", "reproduce", NAME)
    assert status == 2
    assert "expected CAMPAIGN/ITERATION" in output


def test_a_remote_that_is_down_is_told_and_ends_nothing(campaign: Workspace) -> None:
    command(campaign.root, "dvc", "remote", "modify", "--local", "store", "url", "/proc/no/store")
    status, output = run(campaign.root, "distil_flows.cli", "run")
    assert status == 0, output
    assert "`dvc push` to the remote failed" in " ".join(output.split())
