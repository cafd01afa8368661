"""A tiny campaign, run once a module by the stages' bodies."""

import shutil
from pathlib import Path

import pytest
from pipeline_scratch import run_campaign

from distil_core.workspace import Workspace


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two iterations, finished. Read only: tests that change it copy it."""
    workspace = Workspace(tmp_path_factory.mktemp("campaign"))
    run_campaign(workspace)
    return workspace


@pytest.fixture
def copy(campaign: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(campaign.root, tmp_path / "copy")
    return Workspace(tmp_path / "copy")
