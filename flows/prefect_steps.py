"""Steps of prefect.yaml: what a deployment says of its workspace, and how a worker gets there.

A deployment remembers the folder it was made in. Whichever worker takes one of its runs on that
machine works there; so workspaces that share a work pool do not do each other's runs.
"""

import os
from pathlib import Path
from typing import Any

from distil_core.errors import ConfigError
from distil_core.workspace import Workspace
from distil_flows.ownership import deployed_tags, deployment_name, workspace_label

POOL = "pool"
"""The short name of a work pool's deployment."""

VARIABLE = "DISTIL_WORKSPACE"


def describe_workspace() -> dict[str, Any]:
    """The workspace in the working directory, when it is deployed: `deployment`, `root`, `label`
    and `tags`, for prefect.yaml's templates.

    Raises `ConfigError` where that is no workspace.
    """
    from prefect.client.orchestration import get_client

    from distil_flows.api_identity import is_ours
    from distil_flows.api_server import configured_url

    workspace = Workspace(Path.cwd())
    if not _is_workspace(workspace.root):
        raise ConfigError(f"{_not_one(workspace.root)}: `prefect deploy` is called in one's root")
    with get_client(sync_client=True) as client:
        flows = ("distil-iteration", "distil-campaign")
        own_server = is_ours(configured_url())
        name = deployment_name(client, workspace, flows, own_server, POOL)
    print(f"A run: prefect deployment run distil-iteration/{name} --watch")
    return {
        "deployment": name,
        "root": str(workspace.root),
        "label": workspace_label(workspace),
        "tags": deployed_tags(workspace),
    }


def enter_workspace(root: str = "", label: str = "") -> dict[str, str]:
    """Go to the deployment's workspace: `root` where it is on this machine, else the clone that
    DISTIL_WORKSPACE names. label: tells the workspace from one that took its place.

    Where there is neither, the working directory stays as it is and the flow says why
    (`why_no_workspace`): what a step raises stands below two pages of Prefect's traceback.
    """
    clone = os.environ.get(VARIABLE, "")
    if _is_deployed(Path(root), label):
        os.chdir(root)
    elif clone and _is_workspace(Path(clone)):
        os.chdir(clone)
    else:
        _lost.append(
            f"{VARIABLE} names {clone}, which is no DistIL workspace"
            if clone
            else f"{root or 'the folder that was deployed'} is not on this machine as it was "
            f"deployed, and {VARIABLE} is not set"
        )
    return {"directory": str(Path.cwd())}


_lost: list[str] = []


def why_no_workspace() -> str | None:
    """Why a flow run cannot begin in the working directory, with what to do; None where it can."""
    here = Path.cwd()
    if _is_workspace(here):
        return None
    if _lost:
        return (
            f"this worker does not know the run's workspace: {_lost[-1]}. In the workspace's "
            f"folder on this machine `export {VARIABLE}=$PWD`, then `prefect worker start ..` "
            "again; or `prefect deploy --all` there"
        )
    return f"{_not_one(here)}: runs work in the root of one"


def _is_deployed(root: Path, label: str) -> bool:
    if not _is_workspace(root):
        return False
    found = workspace_label(Workspace(root))
    return not label or found.split("-")[-2:] == label.split("-")[-2:]


def _not_one(folder: Path) -> str:
    return f"{folder} is no DistIL workspace (it lacks dvc.yaml or iterations.yaml)"


def _is_workspace(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("dvc.yaml", "iterations.yaml"))
