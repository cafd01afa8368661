"""A campaign that has run, copies of it, and a Prefect server of no workspace's own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import front_door_scratch as scratch
import pytest

from distil_core.workspace import Workspace


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A workspace on which `make run` has run, and what it said.

    A test that changes something in it puts it back.
    """
    workspace = scratch.make_workspace(tmp_path_factory.mktemp("campaign") / "workspace")
    status, output = scratch.run(workspace.root, "distil_flows.cli", "run")
    assert status == 0, output
    return workspace, output


@pytest.fixture
def finished(first_run: tuple[Workspace, str], tmp_path: Path) -> Workspace:
    """A copy of it, to be changed."""
    # MLflow's database knows where it was made; a copy is recorded anew.
    without = shutil.ignore_patterns("mlflow.db*", "mlruns")
    shutil.copytree(first_run[0].root, tmp_path / "copy", symlinks=True, ignore=without)
    return Workspace(tmp_path / "copy")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a `prefect server start` that is no workspace's own."""
    home = tmp_path_factory.mktemp("prefect")
    shutil.copy(scratch.PROJECT / "pyproject.toml", home)
    with scratch.prefect_server(home) as url:
        yield url


@pytest.fixture
def here(finished: Workspace, server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The copy, for flows called in this process."""
    from prefect.context import refresh_global_settings_context

    monkeypatch.chdir(finished.root)
    monkeypatch.setenv("PREFECT_API_URL", server)
    refresh_global_settings_context()
    yield finished
    monkeypatch.undo()
    refresh_global_settings_context()
