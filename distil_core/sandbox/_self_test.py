"""Before the first program: does the isolation hold here, on this kernel, as this user?"""

import json
from collections.abc import Callable
from typing import Any

from distil_core.errors import SandboxError
from distil_core.sandbox.limits import Isolation
from distil_core.sandbox.results import ProgramResult

# Each line is something that must fail; what succeeds is printed.
_PROBE = """
import ctypes, json, os, socket
attempts = {
    "start a process": lambda: os.fork() or os._exit(0),
    "start a program": lambda: os.execv("/usr/bin/true", ["true"]),
    "open a socket": lambda: socket.socket(),
    "open a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "read the host's accounts": lambda: open("/etc/passwd").close(),
    "see processes": lambda: os.listdir("/proc/1"),
    "write to the system": lambda: open("/usr/probe", "w").close(),
    "write to the root folder": lambda: open("/probe", "w").close(),
    "signal others": lambda: os.kill(-1, 0),
    "make a user namespace": lambda: made(libc.unshare(0x10000000)),
    "mount": lambda: made(libc.mount(b"tmpfs", b"/box", b"tmpfs", 0, None)),
    "trace": lambda: made(libc.ptrace(0, 0, 0, 0)),
}
libc = ctypes.CDLL(None)
def made(result):
    if result < 0:
        raise OSError
let_through = [] if os.getpid() == 1 else ["share a process namespace"]
if set(os.environ) - {"LANG", "LC_CTYPE", "PYTHONHASHSEED", "PWD"}:
    let_through.append("read the environment")
for name, attempt in attempts.items():
    try:
        attempt()
        let_through.append(name)
    except OSError:
        pass
open("own", "w").close()
os.remove("own")
print(json.dumps(let_through))
"""


def examine_isolation(
    run: Callable[[dict[str, Any], bytes], ProgramResult], isolation: Isolation
) -> str:
    """A line that says what holds. Raises `SandboxError` naming what got through."""
    if isolation == "rlimits_only":
        return "rlimits_only: programs are NOT isolated, only their time and memory are limited"
    result = run({"mode": "program", "source": _PROBE, "preamble": "", "trace_lines": 0}, b"")
    if result.ending != "exited" or result.exit_code != 0:
        reason = result.exception.message if result.exception else result.stderr[-300:].decode()
        raise SandboxError(
            f"the sandbox's self-test ended with {result.ending}, exit code {result.exit_code}: "
            f"{reason or 'no message'} (are the limits too low to start Python?)"
        )
    let_through = json.loads(result.stdout)
    if let_through:
        raise SandboxError(
            f"the sandbox does not isolate here: a program could {', '.join(let_through)}; no "
            "model-written code is run. Kernel or bubblewrap lack a feature: `distil doctor`"
        )
    return f"{isolation}: no processes, sockets, host files, signals or namespaces for programs"
