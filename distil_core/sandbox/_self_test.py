"""Test before the first program that the isolation really holds on this kernel and for this
user."""

import json
from collections.abc import Callable
from typing import Any

from distil_core.errors import SandboxError
from distil_core.sandbox.limits import Isolation
from distil_core.sandbox.results import ProgramResult

# Each line must fail; those that succeed are printed.
_PROBE = """
import _thread, ctypes, fcntl, json, os, socket
def too_many_threads():
    _thread.stack_size(1 << 16)
    lock = _thread.allocate_lock()
    lock.acquire()
    try:
        for number in range(200):
            _thread.start_new_thread(lock.acquire, ())
    except RuntimeError:
        raise OSError
def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False
inherited = [number for number in range(4, 4096) if is_open(number)]
mode = os.stat("/dev/null").st_mode & 0o7777
left, right = socket.socketpair()
reading, writing = os.pipe()
own = os.open("own", os.O_RDWR | os.O_CREAT)
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
    "change a device of the host": lambda: os.chmod("/dev/null", mode),
    "start more threads than its limit": too_many_threads,
    "lock files": lambda: fcntl.lockf(own, fcntl.LOCK_EX),
    "lock whole files": lambda: fcntl.flock(own, fcntl.LOCK_EX),
    "ask for notifications": lambda: fcntl.fcntl(own, fcntl.F_SETLEASE, fcntl.F_RDLCK),
    "enlarge pipes": lambda: fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 17),
    "enlarge sockets": lambda: left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17),
}
libc = ctypes.CDLL(None)
def made(result):
    if result < 0:
        raise OSError
let_through = [] if os.getpid() == 1 else ["share a process namespace"]
if set(os.environ) - {"LANG", "LC_CTYPE", "PYTHONHASHSEED", "PWD"}:
    let_through.append("read the environment")
if inherited:
    let_through.append("use descriptors that are not its own")
for name, attempt in attempts.items():
    try:
        attempt()
        let_through.append(name)
    except OSError:
        pass
os.remove("own")
print(json.dumps(let_through), flush=True)
os._exit(0)
"""


def examine_isolation(
    run: Callable[[dict[str, Any], bytes], ProgramResult], isolation: Isolation
) -> str:
    """One line that says what was tested. Raises `SandboxError` that names what got through."""
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
    return (
        f"{isolation}: no processes, sockets, host files, devices, signals, locks or namespaces "
        "for programs, and few threads"
    )
