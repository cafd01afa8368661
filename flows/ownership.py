"""Which workspace a flow run belongs to, on a Prefect server that several workspaces share.

Prefect gives a run to whoever serves its deployment, and a deployment is only a name. So the short
names (`local`, `pool`) are those of the workspace whose own server it is; elsewhere a name has the
workspace's in it. Runs carry their workspace and campaign as tags, and are refused in another
workspace.
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
from distil_core.lineage.git import git
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

DEPLOYMENT = "local"
"""The short name of a served deployment."""

_WORKSPACE_TAG = "workspace:"
_REPOSITORY_TAG = "repository:"
_DEPLOYED_TAG = "deployed-by:"
_CAMPAIGN_TAG = "campaign:"
_COMMIT_DIGITS = 12


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


def workspace_label(workspace: Workspace) -> str:
    """The same without its prefix, for the keys of what this workspace publishes."""
    return workspace_tag(workspace).removeprefix(_WORKSPACE_TAG)


def repository_tag(workspace: Workspace) -> str:
    """The tag of runs that any clone of the workspace may take, on machines that share a work
    pool: the first commit, which clones have in common. Raises `LineageError` where there is
    none."""
    roots = git(workspace.root, "rev-list", "--max-parents=0", "HEAD").split()
    return f"{_REPOSITORY_TAG}{min(roots)[:_COMMIT_DIGITS]}"


def deployed_tags(workspace: Workspace) -> list[str]:
    """Tags of a deployment for a work pool: any clone may take its runs, the name is this
    workspace's."""
    deployed = f"{_DEPLOYED_TAG}{workspace_label(workspace)}"
    return [repository_tag(workspace), deployed, *_campaign_tags(workspace)]


def run_tags(workspace: Workspace) -> list[str]:
    """Tags of every flow run and task run here: workspace, and campaign where there is one."""
    return [workspace_tag(workspace), *_campaign_tags(workspace)]


def _campaign_tags(workspace: Workspace) -> list[str]:
    iterations = existing_iterations(workspace)
    if not iterations:
        return []
    campaign = load_iteration_params(workspace, iterations[-1], False).campaign
    return [f"{_CAMPAIGN_TAG}{campaign}"]


def require_own_workspace(workspace: Workspace, tags: Iterable[str]) -> None:
    """Raise `ForeignRunError` where a run's tags name another workspace, or another campaign."""
    tags = list(tags)
    own = run_tags(workspace)
    if any(tag.startswith(_REPOSITORY_TAG) for tag in tags):
        own.append(repository_tag(workspace))
    for kind in (_WORKSPACE_TAG, _REPOSITORY_TAG, _CAMPAIGN_TAG):
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
    client: "SyncPrefectClient",
    workspace: Workspace,
    flow_names: Iterable[str],
    own_server: bool,
    short: str = DEPLOYMENT,
) -> str:
    """The name of this workspace's deployments on the client's server.

    own_server: whether that is the workspace's own, where the short name is its own as well;
    otherwise nobody has it, so that what is asked for by it can reach no other workspace.
    """
    folder, identity = _folder_name(workspace), _identity(workspace_tag(workspace))
    candidates = [f"{short}-{folder}", f"{short}-{folder}-{identity}"]
    if own_server:
        candidates.insert(0, short)
    flow_names = list(flow_names)
    for name in candidates:
        if all(_is_free(client, f"{flow}/{name}", identity) for flow in flow_names):
            return name
    return candidates[-1]


def delete_other_deployments(
    client: "SyncPrefectClient", workspace: Workspace, flow_names: Iterable[str], kept: str
) -> list[str]:
    """Delete deployments that this workspace served under another name, which nobody serves any
    more; returns their addresses."""
    identity = _identity(workspace_tag(workspace))
    wanted = set(flow_names)
    names = {flow.id: flow.name for flow in client.read_flows() if flow.name in wanted}
    deleted = []
    for deployment in client.read_deployments():
        owners = {_identity(tag) for tag in deployment.tags if tag.startswith(_WORKSPACE_TAG)}
        is_served = deployment.work_pool_name is None
        if owners == {identity} and is_served and deployment.name != kept:
            client.delete_deployment(deployment.id)
            deleted.append(f"{names.get(deployment.flow_id, '?')}/{deployment.name}")
    return deleted


def served_name(workspace: Workspace) -> str:
    """The name of this workspace's deployments when they were last served; before, the one they
    get on the workspace's own server."""
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
    owners = {
        _identity(tag) for tag in deployment.tags if tag.startswith((_WORKSPACE_TAG, _DEPLOYED_TAG))
    }
    # A deployment without an owner is from an earlier version, which served only one workspace.
    return not owners or identity in owners


def _is_set(tag: str) -> bool:
    """Whether a tag has a value, unlike a template in prefect.yaml whose variable had none."""
    return not tag.endswith(":") and "{{" not in tag


def _identity(tag: str) -> str:
    """The part of a workspace's tag that does not change with the folder's name."""
    kinds = (_WORKSPACE_TAG, _DEPLOYED_TAG)
    return "-".join(tag.split("-")[-2:]) if tag.startswith(kinds) else tag


def _folder_name(workspace: Workspace) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", workspace.root.resolve().name).strip("-").lower()
    return name or "workspace"


def _name_file(workspace: Workspace) -> Path:
    return workspace.scratch_dir / "deployment-name"
