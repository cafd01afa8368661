"""Where run events go: a file, one event a line, or a server that speaks OpenLineage over HTTP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from distil_core.errors import ExportError
from distil_core.files import write_text

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

_TIMEOUT_S = 30.0


def is_address(target: str) -> bool:
    """Whether it names a server rather than a file."""
    return target.startswith(("http://", "https://"))


def write_events(events: Sequence[RunEvent], path: Path) -> None:
    """One event a line, as the client's own file transport writes them; the file is replaced.
    Raises `ExportError` where it cannot be written."""
    from openlineage.client.serde import Serde

    try:
        write_text(path, "".join(f"{Serde.to_json(event)}\n" for event in events))
    except OSError as error:
        raise ExportError(f"cannot write {path} ({error}): name another file") from error


def send_events(events: Sequence[RunEvent], address: str) -> None:
    """Post each event, in order. address: of the server, with `/api/v1/lineage` where it names no
    path of its own. OPENLINEAGE_API_KEY, if set, is sent as the client's bearer token.

    Raises `ExportError` where the server cannot be reached or refuses one; those before it were
    taken, and sending all of them again tells of the same runs.
    """
    from openlineage.client.transport.http import (
        ApiKeyTokenProvider,
        HttpConfig,
        HttpTransport,
        TokenProvider,
    )

    parts = urlsplit(address)
    path = parts.path.strip("/")
    key = os.environ.get("OPENLINEAGE_API_KEY")
    config = HttpConfig(
        url=f"{parts.scheme}://{parts.netloc}",
        endpoint=path or "api/v1/lineage",
        timeout=_TIMEOUT_S,
        auth=ApiKeyTokenProvider({"apiKey": key}) if key else TokenProvider({}),
    )
    transport = HttpTransport(config)
    with closing(transport):
        for number, event in enumerate(events):
            try:
                transport.emit(event)
            except Exception as error:  # requests and the client raise many unrelated types
                raise ExportError(
                    f"{address} took {number} of {len(events)} events, then failed "
                    f"({type(error).__name__}: {error}): check the address and "
                    "OPENLINEAGE_API_KEY, and send them again"
                ) from error
