"""`distil serve`: wait for runs of this workspace's deployments and execute them.

Serves `distil-iteration/local` and `distil-campaign/local`, one run at a time, until Ctrl-C. On a
server that is not this workspace's own, the name has the workspace's in it (`local-<folder>`) and
is printed. More machines: see prefect.yaml.
"""

import argparse

from distil_core.campaign.iterations import existing_iterations
from distil_core.files import private_folder
from distil_core.lineage.dvc.upgrade import require_present_pipeline
from distil_core.lineage.mlflow.address import require_answering
from distil_core.lineage.usable import require_usable
from distil_core.workspace import Workspace
from distil_flows.api_identity import is_ours
from distil_flows.api_server import configured_url, require_own
from distil_flows.ownership import (
    DEPLOYMENT,
    delete_other_deployments,
    deployment_name,
    keep_served_name,
    workspace_tag,
)


def add_arguments(_: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(workspace: Workspace, _: argparse.Namespace) -> int:
    """Serve until interrupted; raises `DistilError` when there is nothing to serve to."""
    require_usable(workspace)
    require_answering(workspace)
    require_present_pipeline(workspace)
    existing_iterations(workspace)
    url = configured_url()
    note = require_own(url)
    if note:
        print(note)
    _serve(workspace, url)
    return 0


def _serve(workspace: Workspace, url: str) -> None:
    from prefect import serve
    from prefect.client.orchestration import get_client
    from prefect.deployments.runner import RunnerDeployment
    from prefect.settings import get_current_settings

    from distil_flows.campaign import distil_campaign
    from distil_flows.iteration import distil_iteration
    from distil_flows.liveness import mark_dead_runs

    flows = (distil_iteration, distil_campaign)
    with get_client(sync_client=True) as client:
        names = [flow.name for flow in flows]
        name = deployment_name(client, workspace, names, is_ours(url))
        for address in delete_other_deployments(client, workspace, names, name):
            print(f"{address}, this workspace's name before, is deleted")
    keep_served_name(workspace, name)
    home = get_current_settings().home
    if home.resolve().is_relative_to(workspace.root.resolve()):
        private_folder(home)
    for flow_run_id in mark_dead_runs(workspace):
        print(f"flow run {flow_run_id} had died; it is marked CRASHED now")
    if name != DEPLOYMENT:
        print(
            f"The server at {url} is not this workspace's own, or others have the name "
            f"{DEPLOYMENT!r} there: runs of this workspace are asked for as {name}."
        )
    print(
        f"Serving {workspace.root} to {url}. In another terminal:\n"
        f"  prefect deployment run distil-iteration/{name} --watch\n"
        f"  prefect deployment run distil-iteration/{name} -p iteration=3 --watch\n"
        f"  prefect deployment run distil-campaign/{name} --watch\n"
        "Ctrl-C ends it.",
        flush=True,
    )
    # Two runs would only wait for each other, as stages of a workspace exclude one another.
    serve(
        *(
            RunnerDeployment.from_flow(
                flow, name=name, description=flow.description, tags=[workspace_tag(workspace)]
            )
            for flow in flows
        ),
        limit=1,
        pause_on_shutdown=False,
        print_starting_message=False,
    )
