"""Which workspace a flow run belongs to, on a Prefect server that several workspaces share.

Prefect gives a run to whoever serves its deployment, and a deployment is only a name. So the name
`local` belongs to the first workspace that served it there, and another workspace gets its own
name. Runs carry their workspace and campaign as tags, and are refused in another workspace.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from distil_core.campaign.iterations import existing_iterations
from distil_core.campaign.load import load_iteration_params
from distil_core.errors import ConfigError
from distil_core.files import private_folder, write_text
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

DEPLOYMENT = "local"
_WORKSPACE_TAG = "workspace:"
_CAMPAIGN_TAG = "campaign:"


class ForeignRunError(ConfigError):
    """A flow run of another workspace reached this one."""


def workspace_tag(workspace: Workspace) -> str:
    """The tag of this workspace's runs: its folder's name for people, and an identity. A clone or
    copy gets another identity; a renamed folder keeps its own."""
    file = workspace.scratch_dir / "workspace-id"
    if not file.exists():
        private_folder(workspace.scratch_dir)
        write_text(file, uuid4().hex)
    with file.open(encoding="utf-8") as opened:
        # Includes the file's inode, as a copy of the whole folder has the same text.
        identity = f"{opened.read(8)}-{os.fstat(opened.fileno()).st_ino:x}"
    return f"{_WORKSPACE_TAG}{_folder_name(workspace)}-{identity}"


def run_tags(workspace: Workspace) -> list[str]:
    """Tags of every flow run and task run here: workspace, and campaign where there is one."""
    tags = [workspace_tag(workspace)]
    iterations = existing_iterations(workspace)
    if iterations:
        campaign = load_iteration_params(workspace, iterations[-1], False).campaign
        tags.append(f"{_CAMPAIGN_TAG}{campaign}")
    return tags


def require_own_workspace(workspace: Workspace, tags: Iterable[str]) -> None:
    """Raise `ForeignRunError` where a run's tags name another workspace, or another campaign."""
    own = run_tags(workspace)
    for kind in (_WORKSPACE_TAG, _CAMPAIGN_TAG):
        asked = {_identity(tag): tag for tag in tags if tag.startswith(kind) and _is_set(tag)}
        here = {_identity(tag): tag for tag in own if tag.startswith(kind)}
        if asked and not asked.keys() & here.keys():
            raise ForeignRunError(
                f"this run was asked for by {', '.join(sorted(asked.values()))}; the process that "
                f"took it works on {', '.join(sorted(here.values())) or 'no campaign yet'} in "
                f"{workspace.root}. Nothing was done. `distil serve` in the other "
                "workspace says under which name it serves its own runs"
            )


def tag_current_run(workspace: Workspace) -> None:
    """Give this flow run the workspace's tags, however it was started."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    tags = list(flow_run.tags)
    missing = [tag for tag in run_tags(workspace) if tag not in tags]
    if missing:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), tags=[*tags, *missing])


def deployment_name(
    client: "SyncPrefectClient", workspace: Workspace, flow_names: Iterable[str]
) -> str:
    """The name under which this workspace serves its flows: `local`, unless another workspace has
    it."""
    own = workspace_tag(workspace)
    folder, identity = _folder_name(workspace), _identity(own)
    candidates = (DEPLOYMENT, f"{DEPLOYMENT}-{folder}", f"{DEPLOYMENT}-{folder}-{identity}")
    flow_names = list(flow_names)
    for name in candidates:
        if all(_is_free(client, f"{flow}/{name}", identity) for flow in flow_names):
            return name
    return candidates[-1]


def served_name(workspace: Workspace) -> str:
    """The name of this workspace's deployments when they were last served; `local` before."""
    try:
        return _name_file(workspace).read_text(encoding="utf-8").strip() or DEPLOYMENT
    except FileNotFoundError:
        return DEPLOYMENT


def keep_served_name(workspace: Workspace, name: str) -> None:
    """Store the name, for commands that other programs print."""
    private_folder(workspace.scratch_dir)
    write_text(_name_file(workspace), name)


def _is_free(client: "SyncPrefectClient", address: str, identity: str) -> bool:
    from prefect.exceptions import ObjectNotFound

    try:
        deployment = client.read_deployment_by_name(address)
    except ObjectNotFound:
        return True
    owners = [tag for tag in deployment.tags if tag.startswith(_WORKSPACE_TAG)]
    # A deployment without an owner is from an earlier version, which served only one workspace.
    return not owners or any(_identity(tag) == identity for tag in owners)


def _is_set(tag: str) -> bool:
    """Whether a tag has a value, unlike a template in prefect.yaml whose variable had none."""
    return not tag.endswith(":") and "{{" not in tag


def _identity(tag: str) -> str:
    """The part of a workspace's tag that does not change with the folder's name."""
    return "-".join(tag.split("-")[-2:]) if tag.startswith(_WORKSPACE_TAG) else tag


def _folder_name(workspace: Workspace) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", workspace.root.resolve().name).strip("-").lower()
    return name or "workspace"


def _name_file(workspace: Workspace) -> Path:
    return workspace.scratch_dir / "deployment-name"
