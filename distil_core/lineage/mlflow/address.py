"""Where a workspace is recorded: what MLFLOW_TRACKING_URI names, or a database of its own.

MLflow is not imported here, so that commands can say at once where they will record, and whether
anybody answers there: MLflow itself asks a server that is gone for minutes, without a word.
"""

import os
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from distil_core.errors import LineageError
from distil_core.workspace import Workspace

VARIABLE = "MLFLOW_TRACKING_URI"

_TIMEOUT_S = 5.0
_SERVERS = ("http", "https")
_DATABASE_PORTS = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mssql": 1433}


def own_uri(workspace: Workspace) -> str:
    """The address of the workspace's own database."""
    return database_uri(workspace.mlflow_database.resolve())


def database_uri(path: Path) -> str:
    """SQLAlchemy's address of a SQLite file, where `?` would start options and `%2F` is a slash. It
    names the driver, as MLflow would otherwise create a folder with the encoded name."""
    encoded = str(path).replace("%", "%25").replace("?", "%3F")
    return f"sqlite{'' if encoded == str(path) else '+pysqlite'}:///{encoded}"


def tracking_uri(workspace: Workspace) -> str:
    """The address in force: the user's, or else the workspace's own."""
    return os.environ.get(VARIABLE) or own_uri(workspace)


def has_server(uri: str) -> bool:
    """Whether it is the address of a server, which has pages of its own."""
    return urlsplit(uri).scheme in _SERVERS


def shown(uri: str) -> str:
    """The address without a password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def where_recorded(workspace: Workspace) -> str:
    """The address in force and who chose it, for people."""
    uri = shown(tracking_uri(workspace))
    return f"{uri} ({VARIABLE})" if os.environ.get(VARIABLE) else uri


def require_answering(workspace: Workspace) -> None:
    """Raise `LineageError`, with what to do, where the address in force is of a server that
    does not answer."""
    uri = tracking_uri(workspace)
    reason = why_silent(uri)
    if reason:
        raise LineageError(f"nobody answers at {shown(uri)} ({reason}): {remedy(workspace)}")


def remedy(workspace: Workspace) -> str:
    """What to do where nobody answers."""
    return (
        f"{VARIABLE} names this address. Start the server, correct the variable, or `unset "
        f"{VARIABLE}` to record into {workspace.mlflow_database.name} of the workspace"
    )


def why_silent(uri: str) -> str | None:
    """Why nobody can be reached at the address; None where somebody answers, or where it is not the
    address of a server."""
    parts = urlsplit(uri)
    try:
        if parts.scheme in _SERVERS:
            _ask(shown(uri).rstrip("/"))
        elif parts.hostname:
            default = _DATABASE_PORTS.get(parts.scheme.partition("+")[0])
            if parts.port or default:
                address = (parts.hostname, parts.port or default)
                socket.create_connection(address, timeout=_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    return None


def _ask(url: str) -> None:
    """Any answer counts, as a server may be behind a gate that wants credentials."""
    try:
        urllib.request.urlopen(f"{url}/health", timeout=_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return
    except urllib.error.URLError as error:
        # Whether the certificate will do is left to MLflow, which has settings for that.
        if not isinstance(error.reason, ssl.SSLError):
            raise
