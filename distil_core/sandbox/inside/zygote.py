"""The warm interpreter that forks one child for each program.

It reads nothing that a program wrote: it receives descriptors from the host, forks, and reports how
the child ended, over a socket that no child inherits.
"""

import gc
import importlib
import os
import socket
import sys
from typing import Any, NoReturn

from . import confine, harness
from .values import dump, parse

_CONTROL = 3
_MESSAGE_BYTES = 1 << 16
_NUM_DESCRIPTORS = 4
# Modules that programs often import. Loaded once here, they cost a program nothing.
_PRELOADED = (
    "abc ast asyncio base64 bisect calendar cmath collections contextlib copy dataclasses datetime "
    "decimal enum fractions functools hashlib heapq io itertools json linecache math numbers "
    "operator queue random re statistics string struct textwrap threading time traceback types "
    "typing unittest unittest.mock zlib"
)


def main() -> None:
    """Serve until the host closes its end of the socket that the first argument names."""
    os.dup2(int(sys.argv[1]), _CONTROL)
    confine.close_from(_CONTROL + 1)
    control = socket.socket(fileno=_CONTROL)
    control.set_inheritable(False)
    settings = parse(control.recv(_MESSAGE_BYTES))
    if settings["isolated"]:
        os.umask(0o077)
        if settings["is_root"]:
            confine.become_nobody()
        confine.protect_devices()
    confine.die_with_parent()
    if settings["preload"]:
        for module in _PRELOADED.split():
            importlib.import_module(module)
    gc.collect()
    gc.freeze()
    control.send(dump({"ready": sys.version.split()[0]}))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, _NUM_DESCRIPTORS)
        if not message:
            return
        _run_one(control, parse(message), list(descriptors), settings)


def _run_one(
    control: socket.socket, limits: dict[str, Any], descriptors: list[int], settings: dict[str, Any]
) -> None:
    try:
        pid = confine.fork_into_namespace() if settings["isolated"] else os.fork()
    except OSError as error:
        control.send(dump({"error": f"cannot fork: {error}"}))
        return
    if pid == 0:
        _child(limits, descriptors, settings)
    for descriptor in descriptors:
        os.close(descriptor)
    pidfd = os.pidfd_open(pid)
    socket.send_fds(control, [dump({"started": True})], [pidfd])
    os.close(pidfd)
    _, status, usage = os.wait4(pid, 0)
    ended = {
        "exit": os.waitstatus_to_exitcode(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "max_rss_mb": usage.ru_maxrss / 1024,
    }
    control.send(dump(ended))


def _child(limits: dict[str, Any], descriptors: list[int], settings: dict[str, Any]) -> NoReturn:
    try:
        confine.take_descriptors(descriptors)
        if settings["isolated"]:
            confine.isolate(limits, bytes.fromhex(settings["seccomp_filter"]))
        else:
            confine.die_with_parent()
            confine.limit_resources(limits)
        confine.same_random_state()
        harness.serve(settings["answer_bytes"])
    finally:
        # Whatever goes wrong, a child never returns to the zygote's loop.
        os._exit(1)
