"""Found by every Python process of a scene through PYTHONPATH: counts what it does to files, and
sends a signal at the chosen one, before it happens or a little after.

DISTIL_TRAP: JSON with `counter` (a file, one byte for each operation of all processes), `root`,
`nth`, `delay_s`, `signal`. An operation is an open, rename, removal, link or new folder below the
workspace's artifacts and records.
"""

import json
import os
import signal
import sys
import threading
import time
from typing import Any

_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.rmdir", "sqlite3.connect"}
_WATCHED = ("data", "dvc.lock", ".dvc", ".distil", "mlflow.db", "mlruns", "report.html")
_busy = threading.local()


def _arm(trap: dict[str, Any]) -> None:
    root = trap["root"]
    prefixes = tuple(os.path.join(root, name) for name in _WATCHED)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or getattr(_busy, "on", False):
            return
        path = arguments[0] if arguments else None
        if not isinstance(path, (str, bytes)):
            return
        path = os.fsdecode(path)
        if not os.path.isabs(path):
            path = os.path.join(root, path)
        if not path.startswith(prefixes):
            return
        _busy.on = True
        try:
            _count(trap, event, path)
        finally:
            _busy.on = False

    sys.addaudithook(watch)


def _count(trap: dict[str, Any], event: str, path: str) -> None:
    counter = os.open(trap["counter"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(counter, b".")
    count = os.fstat(counter).st_size
    os.close(counter)
    if count != trap["nth"]:
        return
    with open(trap["counter"] + ".struck", "w", encoding="utf-8") as file:
        file.write(f"{event} {os.path.relpath(path, trap['root'])}")
    if trap["delay_s"]:
        threading.Thread(
            target=_strike, args=(trap["signal"], trap["delay_s"]), daemon=True
        ).start()
    else:
        _strike(trap["signal"], 0)


def _strike(number: int, delay_s: float) -> None:
    time.sleep(delay_s)
    if number == signal.SIGINT:
        # What Ctrl-C does: every process of the terminal's group hears of it.
        os.killpg(os.getpgrp(), number)
    else:
        os.killpg(os.getpgrp(), signal.SIGKILL)


if "DISTIL_TRAP" in os.environ:
    _arm(json.loads(os.environ["DISTIL_TRAP"]))
