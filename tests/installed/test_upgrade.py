"""A campaign that an earlier version made goes on with this one; what is recorded stays.

campaign-of-0.1.0.tar.xz is a workspace of two iterations as commit 450be04 left it, when stages
were modules of `tasks`: its files, DVC's cache, and a model of 5,000 parameters.
"""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "flows"))
sys.path.append(str(Path(__file__).parents[1] / "lineage"))
import front_door_scratch as scratch
from dvc_scratch import dvc, git

from distil_core.campaign.pipeline_file import pipeline_text
from distil_core.lineage.dvc.lock import locked_outputs, read_entries
from distil_core.workspace import Workspace

CAMPAIGN = Path(__file__).with_name("campaign-of-0.1.0.tar.xz")
OWN_STAGE = (
    "  mine: # a stage of my own\n    cmd: echo mine > mine.txt\n    outs:\n      - mine.txt\n"
)


@pytest.fixture
def campaign(tmp_path: Path) -> Workspace:
    root = tmp_path / "campaign"
    with tarfile.open(CAMPAIGN) as archive:
        archive.extractall(root, filter="data")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "-c", "user.name=test", "-c", "user.email=t@example.org", "commit", "-qm", "start")
    dvc(root, "checkout", "-q")
    return Workspace(root)


def distil(workspace: Workspace, *arguments: str) -> tuple[int, str]:
    return scratch.run(workspace.root, "distil_flows.cli", *arguments, PYTHONPATH="")


def test_nothing_is_run_before_the_upgrade(campaign: Workspace) -> None:
    before = (campaign.root / "dvc.lock").read_bytes()
    for command in ("run", "extend", "restart"):
        status, output = distil(campaign, command)
        assert status == 1
        assert "`distil upgrade`" in " ".join(output.split())
        assert "Traceback" not in output
    assert (campaign.root / "dvc.lock").read_bytes() == before


def test_what_is_recorded_stays_and_the_campaign_goes_on(campaign: Workspace) -> None:
    before = {address: locked_outputs(campaign, address) for address in read_entries(campaign)}
    status, output = distil(campaign, "upgrade")
    assert status == 0, output
    assert (campaign.root / "dvc.yaml").read_text(encoding="utf-8") == pipeline_text()
    assert "up to date" in dvc(campaign.root, "status")
    assert "Running stage" not in dvc(campaign.root, "repro")
    status, output = distil(campaign, "upgrade")
    assert (status, "of this version already" in output) == (0, True)
    assert distil(campaign, "extend")[0] == 0
    status, output = distil(campaign, "run")
    assert status == 0, output
    assert "gate@001       unchanged" in output
    assert "gate@002       ran" in output
    after = {address: locked_outputs(campaign, address) for address in read_entries(campaign)}
    assert before.items() <= after.items()


def test_stages_of_the_users_own_stay(campaign: Workspace) -> None:
    file = campaign.root / "dvc.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("\nstages:\n", f"\nstages:\n{OWN_STAGE}", 1), encoding="utf-8")
    assert distil(campaign, "upgrade")[0] == 0
    after = file.read_text(encoding="utf-8")
    assert OWN_STAGE in after
    assert "python -m tasks." not in after
    dvc(campaign.root, "repro", "-q", "mine")
    assert "up to date" in dvc(campaign.root, "status")


def test_a_damaged_pipeline_is_named(campaign: Workspace) -> None:
    (campaign.root / "dvc.yaml").write_text("stages: [")
    status, output = distil(campaign, "upgrade")
    assert (status, "git checkout dvc.yaml" in output) == (1, True)
    assert subprocess.run(["git", "status"], cwd=campaign.root, check=True, capture_output=True)
