"""Who answers at an address: is it Prefect, which version, and is it this workspace's own server?

A health page proves nothing: on a shared machine, port 4200 may belong to another user or another
workspace. Only something that a server on this workspace's database can know is proof.
"""

import base64
import json
import secrets
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from packaging.version import InvalidVersion, Version

from distil_core.errors import DistilError
from distil_flows import _internals

_TIMEOUT_S = 5.0
_DATABASE_WAIT_S = 10.0
_MOST_BYTES = 65536
_CLOUD = "https://api.prefect.cloud/"


class PrefectApiError(DistilError):
    """No Prefect API can be reached, or ours did not start."""


def answering(url: str) -> Literal["prefect", "other", "nothing"]:
    """What listens at the API address `url`, by its own account."""
    try:
        return "prefect" if _get(f"{url}/health").strip() == b"true" else "other"
    except urllib.error.HTTPError:
        return "other"
    except (OSError, ValueError):
        return "nothing"


def check_version(url: str) -> str:
    """A line for the user where the server's version differs but may work; '' where there is
    nothing to say.

    Raises `PrefectApiError` where it is of another major version or names none, or asks for
    credentials that are not set here. The credentials in force are sent: for addresses that the
    user vouches for.
    """
    if url.startswith(_CLOUD):
        return ""
    import prefect

    own = Version(prefect.__version__)
    mend = (
        f"end that one and start `prefect server start` in this environment, or unset "
        f"PREFECT_API_URL to have one started for each run (expected Prefect {own.major}, as here: "
        f"{own})"
    )
    try:
        found = Version(json.loads(_get(f"{url}/admin/version", _credentials())))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise PrefectApiError(
                f"the Prefect server at {url} wants credentials (HTTP {error.code}): set "
                "PREFECT_API_AUTH_STRING to what it was started with as "
                "PREFECT_SERVER_API_AUTH_STRING"
            ) from error
        raise PrefectApiError(
            f"what answers at {url} does not say its Prefect version (HTTP {error.code}): {mend}"
        ) from error
    except (OSError, ValueError, TypeError, InvalidVersion) as error:
        raise PrefectApiError(
            f"what answers at {url} does not say its Prefect version ({type(error).__name__}): "
            f"{mend}"
        ) from error
    if found.major != own.major:
        raise PrefectApiError(f"the server at {url} is Prefect {found}: {mend}")
    if found.release[:2] == own.release[:2]:
        return ""
    return (
        f"The server at {url} is Prefect {found}, this environment has {own}: expected the same. "
        "They understand each other in most things; if not, start `prefect server start` here."
    )


def is_ours(url: str) -> bool:
    """Whether the server at `url` reads this workspace's own database: a secret written there now
    can be read from it. Nothing of ours is sent to the server."""
    database = _database()
    if database is None or not database.is_file():
        return False
    name, secret = f"distil_proof_{uuid4().hex}", secrets.token_hex(16)
    try:
        with closing(_open(database)) as connection:
            _internals.write_variable(connection, name, secret)
            try:
                answer = json.loads(_get(f"{url}/variables/name/{name}"))
            finally:
                _internals.delete_variable(connection, name)
    except (sqlite3.Error, OSError, ValueError):
        return False
    said = answer.get("value") if isinstance(answer, dict) else None
    return isinstance(said, str) and secrets.compare_digest(said, secret)


def _open(database: Path) -> sqlite3.Connection:
    # Only an existing file: a new one would be taken for a database of Prefect.
    address = f"{database.resolve().as_uri()}?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=_DATABASE_WAIT_S)


def _database() -> Path | None:
    """The SQLite file of a server started in this workspace; None for another kind of database."""
    from prefect.settings import get_current_settings
    from sqlalchemy.engine import make_url

    setting = get_current_settings().server.database.connection_url
    if setting is None:
        return get_current_settings().home / "prefect.db"
    address = make_url(setting.get_secret_value())
    if address.get_backend_name() != "sqlite" or not address.database:
        return None
    return Path(address.database)


def _credentials() -> dict[str, str]:
    from prefect.settings import get_current_settings

    api = get_current_settings().api
    if api.auth_string:
        token = base64.b64encode(api.auth_string.get_secret_value().encode()).decode()
        return {"Authorization": f"Basic {token}"}
    if api.key:
        return {"Authorization": f"Bearer {api.key.get_secret_value()}"}
    return {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Credentials are meant for the address that was named."""


def _get(url: str, headers: dict[str, str] | None = None) -> bytes:
    opener = urllib.request.build_opener(_NoRedirect)
    request = urllib.request.Request(url, headers=headers or {})
    with opener.open(request, timeout=_TIMEOUT_S) as response:
        content: bytes = response.read(_MOST_BYTES)
    return content
