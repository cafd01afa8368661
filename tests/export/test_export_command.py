"""`distil export` as a user calls it, with a hub that speaks as much as an upload needs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from export_scratch import finished_campaign
from hub_server import COMMIT, Hub, hub

from distil_core.workspace import Workspace


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Read only."""
    workspace = finished_campaign(tmp_path_factory.mktemp("command") / "campaign")
    for name in ("params.yaml", "dvc.yaml"):  # what a workspace is found by
        (workspace.root / name).touch()
    (workspace.root / "iterations" / "deep").mkdir()
    return workspace


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as running:
        yield running


def distil(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "distil_flows.cli", "export", *arguments],
        cwd=folder,
        env=kept | {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "hf"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_from_a_subfolder_and_to_the_hub(campaign: Workspace, server: Hub, tmp_path: Path) -> None:
    status, said = distil(
        campaign.root / "iterations" / "deep",
        *("newest", "--to", "../../exported", "--push", "lab/sums"),
        HF_ENDPOINT=server.address,
        HF_TOKEN=server.token,
    )
    assert status == 0, said
    folder = campaign.root / "exported"
    assert f"policy 002 of chain-arithmetic is written to {folder}" in said
    assert f"sent to the hub: {server.address}/lab/sums/commit/{COMMIT}" in said
    assert server.repositories == {"lab/sums": "private"}
    assert server.files == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert server.summary == "Policy 002 of chain-arithmetic"


def test_public_and_a_repository_that_exists(
    campaign: Workspace, server: Hub, tmp_path: Path
) -> None:
    for _ in range(2):
        status, said = distil(
            campaign.root,
            *("0", "--to", str(tmp_path / "out"), "--push", "lab/base", "--public"),
            HF_ENDPOINT=server.address,
            HF_TOKEN=server.token,
        )
        assert status == 0, said
    assert server.repositories == {"lab/base": "public"}


def test_without_credentials_or_a_name_nothing_is_written(
    campaign: Workspace, server: Hub, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    status, said = distil(
        campaign.root, "--to", str(target), "--push", "lab/sums", HF_ENDPOINT=server.address
    )
    assert (status, "distil: there are no credentials for the hub" in said) == (1, True)
    status, said = distil(campaign.root, "--to", str(target), "--push", "lab/sums/x")
    assert (status, "expected OWNER/NAME" in said) == (1, True)
    assert not target.exists()


def test_a_hub_that_refuses_is_said_and_the_folder_stays(
    campaign: Workspace, server: Hub, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    status, said = distil(
        campaign.root,
        *("0", "--to", str(target), "--push", "lab/sums"),
        HF_ENDPOINT=server.address,
        HF_TOKEN="hf_reads",
    )
    assert status == 1
    assert f"{target} is written, but could not be sent to 'lab/sums' at {server.address}" in said
    assert "Traceback" not in said
    assert (target / "model.safetensors").exists()


def test_gguf_says_what_there_is(campaign: Workspace, tmp_path: Path) -> None:
    status, said = distil(campaign.root, "--to", str(tmp_path / "out"), "--gguf")
    assert status == 1
    assert f"python convert_hf_to_gguf.py {tmp_path / 'out'} --outfile out.gguf" in said
