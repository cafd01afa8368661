"""`python -m flows.serve`: wait for runs of this workspace's deployments and execute them.

Serves `distil-iteration/local` and `distil-campaign/local`, one run at a time, until Ctrl-C.
More machines: see prefect.yaml.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from distil_core.config.campaign import existing_iterations
from distil_core.errors import DistilError
from distil_core.workspace import Workspace
from flows.api_server import configured_url, require_answering

DEPLOYMENT = "local"


def main() -> NoReturn:
    """Serve until interrupted; exit 1 with a message when there is nothing to serve to."""
    argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__).parse_args()
    workspace = Workspace(Path.cwd())
    try:
        existing_iterations(workspace)
        url = configured_url()
        require_answering(url)
        _serve(workspace, url)
    except DistilError as error:
        print(f"flows.serve: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _serve(workspace: Workspace, url: str) -> None:
    from prefect import serve
    from prefect.deployments.runner import RunnerDeployment

    from flows.campaign import distil_campaign
    from flows.iteration import distil_iteration
    from flows.liveness import mark_dead_runs

    for flow_run_id in mark_dead_runs(workspace):
        print(f"flow run {flow_run_id} had died; it is marked CRASHED now")
    print(
        f"Serving {workspace.root} to {url}. In another terminal:\n"
        "  prefect deployment run distil-iteration/local --watch\n"
        "  prefect deployment run distil-iteration/local -p iteration=3 --watch\n"
        "  prefect deployment run distil-campaign/local --watch\n"
        "Ctrl-C ends it.",
        flush=True,
    )
    # Two runs would only wait for each other: stages of one workspace exclude one another.
    serve(
        *(
            RunnerDeployment.from_flow(flow, name=DEPLOYMENT, description=flow.description)
            for flow in (distil_iteration, distil_campaign)
        ),
        limit=1,
        pause_on_shutdown=False,
        print_starting_message=False,
    )


if __name__ == "__main__":
    main()
