"""`distil ui`: bring MLflow's record up to date, then show it in the browser."""

import argparse
import os
import socket
import sys
from importlib.metadata import entry_points
from typing import NoReturn

from distil_core.errors import DistilError
from distil_core.lineage.mlflow.address import has_server, shown, tracking_uri
from distil_core.lineage.mlflow.pages_app import APP_NAME, START_PAGE_VARIABLE
from distil_core.lineage.mlflow.record import record_all, why_not_recorded
from distil_core.workspace import Workspace

HOST = "127.0.0.1"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("--port", type=int, default=5000, help="of the pages (default 5000)")


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Become `mlflow ui`. Raises `DistilError` when the port is taken or the record cannot be
    brought up to date. Where MLFLOW_TRACKING_URI names a server, that one has the pages."""
    port: int = arguments.port
    store = tracking_uri(workspace)
    if not has_server(store):
        _require_free(port)
    recorded = record_all(workspace)
    reason = why_not_recorded(workspace)
    address = shown(store).rstrip("/") if has_server(store) else f"http://{HOST}:{port}"
    print(f"{len(recorded)} iterations recorded. The campaign in MLflow:", flush=True)
    start = recorded[-1].experiment_page if recorded else ""
    print(f"  {address}/{start}", flush=True)
    if recorded:
        print(f"Its curves, those that matter first:\n  {address}/{recorded[-1].curves_page}")
    if reason:
        print(f"Not all of the campaign is up to date: {reason}", flush=True)
    if not has_server(store):
        _become_mlflow(store, port, start)
    return 0


def _become_mlflow(store: str, port: int, start_page: str) -> NoReturn:
    print("Ready when it says so; Ctrl-C ends it.", flush=True)
    command = ["server", "--backend-store-uri", store, "--host", HOST, "--port", str(port)]
    # An installation from before there was the application has no entry point for it.
    if entry_points(group="mlflow.app", name=APP_NAME):
        command += ["--app-name", APP_NAME]
        os.environ[START_PAGE_VARIABLE] = start_page
    # One reader needs one worker and no background jobs of MLflow; each takes 0.3 GB.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *command, "--workers", "1"])


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DistilError(
                f"port {port} is in use (another `distil ui`, then open http://{HOST}:{port}; "
                f"or another program). Use another one: `distil ui --port {port + 1}`"
            ) from error
