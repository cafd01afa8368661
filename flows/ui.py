"""`make ui`: bring MLflow's record up to date, then show it in the browser."""

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from distil_core.errors import DistilError
from distil_core.lineage.mlflow_record import record_all
from distil_core.workspace import Workspace

HOST = "127.0.0.1"


def main() -> NoReturn:
    """Become `mlflow ui`; exit 1 with a message when the port is taken or nothing is recorded."""
    parser = argparse.ArgumentParser(prog="python -m flows.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="of the pages (default 5000)")
    port = parser.parse_args().port
    workspace = Workspace(Path.cwd())
    try:
        _require_free(port)
        recorded = record_all(workspace)
    except DistilError as error:
        print(f"flows.ui: {error}", file=sys.stderr)
        sys.exit(1)
    print(
        f"{len(recorded)} iterations recorded. MLflow: http://{HOST}:{port} (Ctrl-C ends it)",
        flush=True,
    )
    store = f"sqlite:///{workspace.mlflow_database}"
    command = ["mlflow", "ui", "--backend-store-uri", store, "--host", HOST, "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", *command])


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DistilError(
                f"port {port} is in use (another `make ui`, then open http://{HOST}:{port}; "
                f"or another program). Use another one: `make ui PORT={port + 1}`"
            ) from error


if __name__ == "__main__":
    main()
