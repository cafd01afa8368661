"""Several workspaces with a campaign of the same name on one Prefect server, and its workers.

About 90 s on two cores: processes that import torch and Prefect.
"""

import os
import shutil
from importlib.metadata import entry_points
from pathlib import Path

import front_door_scratch as scratch
import pytest

from distil_core.workspace import Workspace
from distil_flows.ownership import (
    delete_other_deployments,
    deployment_name,
    keep_served_name,
    workspace_label,
    workspace_tag,
)

FLOWS = ("distil-iteration", "distil-campaign")


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Workspace]:
    """Two of them, with the same campaign, frozen and not run."""
    folder = tmp_path_factory.mktemp("workspaces")
    first = scratch.make_workspace(folder / "first")
    shutil.copy(scratch.PROJECT / "prefect.yaml", first.root)
    status, output = scratch.run(first.root, "distil_flows.cli", "restart")
    assert status == 0, output
    shutil.copytree(first.root, folder / "second", symlinks=True)
    return first, Workspace(folder / "second")


def prefect(root: Path, server: str, *arguments: str) -> tuple[int, str]:
    return scratch.run(root, "prefect", "--no-prompt", *arguments, PREFECT_API_URL=server)


def test_a_worker_does_each_run_in_the_workspace_that_was_deployed(
    workspaces: tuple[Workspace, Workspace], server: str, tmp_path: Path
) -> None:
    """The worker is started outside of both, without DISTIL_WORKSPACE."""
    assert prefect(tmp_path, server, "work-pool", "create", "distil", "--type", "process")[0] == 0
    for workspace in workspaces:
        status, output = prefect(workspace.root, server, "deploy", "--all")
        assert status == 0, output
        assert f"distil-iteration/pool-{workspace.root.name} --watch" in output
    variables = {"PREFECT_API_URL": server, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    worker = scratch.start(
        tmp_path, *("prefect", "worker", "start", "--pool", "distil"), **variables
    )
    run = ("deployment", "run", "--watch", "-p", "iteration=0")
    first, second = workspaces
    try:
        status, output = prefect(first.root, server, *run, "distil-iteration/pool-second")
        assert status == 0, output
        assert second.metrics_file(0).exists()
        assert not first.metrics_file(0).exists()
        # One that is gone is told, whoever takes its run.
        first.root.rename(tmp_path / "gone")
        status, output = prefect(second.root, server, *run, "distil-iteration/pool-first")
        (tmp_path / "gone").rename(first.root)
        assert status == 1, output
        status, output = prefect(second.root, server, *run, "distil-iteration/pool-first")
        assert status == 0, output
    finally:
        scratch.stop(worker)
    runs = scratch.everything(server, "flow_runs")
    (failed,) = (run for run in runs if run["state_type"] == "FAILED")
    message = failed["state"]["message"]
    assert f"does not know the run's workspace: {first.root} is not on this machine" in message
    assert "`export DISTIL_WORKSPACE=$PWD`" in message
    for workspace in workspaces:
        tags = [set(run["tags"]) for run in runs if workspace_tag(workspace) in run["tags"]]
        assert len(tags) == 1
        assert "campaign:chain-arithmetic" in tags[0]
    keys = {artifact["key"] for artifact in scratch.everything(server, "artifacts")}
    for workspace in workspaces:
        label = workspace_label(workspace)
        assert f"chain-arithmetic-{label}-iteration-000" in keys


def test_a_clone_elsewhere_is_named_and_another_repository_refused(
    workspaces: tuple[Workspace, Workspace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distil_core.errors import ConfigError
    from distil_flows import prefect_steps
    from distil_flows.ownership import deployed_tags, require_own_workspace

    first, second = workspaces
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prefect_steps, "_lost", [])
    label = workspace_label(first)
    # Another workspace has taken its folder's place.
    prefect_steps.enter_workspace(str(second.root), label)
    assert Path.cwd() == tmp_path
    assert "is not on this machine as it was deployed" in str(prefect_steps.why_no_workspace())
    monkeypatch.setenv("DISTIL_WORKSPACE", str(tmp_path))
    prefect_steps.enter_workspace(str(tmp_path / "nowhere"), label)
    assert f"DISTIL_WORKSPACE names {tmp_path}, which" in str(prefect_steps.why_no_workspace())
    monkeypatch.setenv("DISTIL_WORKSPACE", str(second.root))
    prefect_steps.enter_workspace(str(tmp_path / "nowhere"), label)
    assert Path.cwd() == second.root
    assert prefect_steps.why_no_workspace() is None
    tags = deployed_tags(first)
    require_own_workspace(second, tags)
    with pytest.raises(ConfigError, match="was asked for by repository:0123456789ab"):
        require_own_workspace(second, ["repository:0123456789ab", *tags[1:]])


def test_the_short_name_is_that_of_the_servers_own_workspace(
    workspaces: tuple[Workspace, Workspace], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    first, second = workspaces
    with temporary_settings({PREFECT_API_URL: server}), get_client(sync_client=True) as client:
        assert deployment_name(client, first, FLOWS, own_server=True) == "local"
        assert deployment_name(client, first, FLOWS, own_server=False) == "local-first"
        flow_id = client.create_flow_from_name(FLOWS[0])
        for name in ("local", "local-first"):
            client.create_deployment(flow_id, name, tags=[workspace_tag(second)])
        identity = workspace_tag(first).partition("first-")[2]
        for own_server in (True, False):
            name = deployment_name(client, first, FLOWS, own_server)
            assert name == f"local-first-{identity}"
        # What a workspace served under another name is deleted, what others serve is not.
        client.create_deployment(flow_id, name, tags=[workspace_tag(first)])
        assert delete_other_deployments(client, first, FLOWS, "kept") == [f"{FLOWS[0]}/{name}"]
        left = {deployment.name for deployment in client.read_deployments()}
    assert {"local", "local-first"} <= left
    assert name not in left


def test_a_flows_name_alone_means_this_workspaces_deployment(
    workspaces: tuple[Workspace, Workspace], server: str
) -> None:
    """The owner's words, through Prefect's own command."""
    if not entry_points(group="prefect.plugins", name="distil"):
        pytest.skip("the installed package is older than pyproject.toml: install it again")
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    first, _ = workspaces
    with temporary_settings({PREFECT_API_URL: server}), get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow_from_name(FLOWS[0]), "mine")
    keep_served_name(first, "mine")
    status, output = prefect(first.root, server, "deployment", "run", FLOWS[0])
    assert status == 0, output
    assert f"asking for this workspace's {FLOWS[0]}/mine" in output
    assert f"Creating flow run for deployment '{FLOWS[0]}/mine'" in output
    elsewhere = first.root.parent
    assert not os.path.exists(elsewhere / "pyproject.toml")
    status, output = prefect(elsewhere, server, "deployment", "run", FLOWS[0])
    assert status != 0
    assert "Expected format" in output


def test_only_a_flows_name_that_stands_alone_is_completed() -> None:
    from distil_flows.prefect_plugin import completed

    words = ["deployment", "run", "distil-iteration", "-p", "iteration=3", "distil-campaign/x"]
    assert completed(words, "local") == [*words[:2], "distil-iteration/local", *words[3:]]


def test_a_new_workspace_gets_the_same_deployments() -> None:
    template = "distil_core/campaign/new_workspace/files/prefect.yaml"
    written = (scratch.PROJECT / template).read_bytes()
    assert written == (scratch.PROJECT / "prefect.yaml").read_bytes()
