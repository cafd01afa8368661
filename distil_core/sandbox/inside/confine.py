"""How a forked child gives up everything before it reads a line of the program.

Each program is process 1 of a process namespace of its own, so that it can name no other process;
sees an empty working folder of its own; holds no capability; and may only make the system calls
of the filter. The C library is called directly: Python 3.11 has none of this.
"""

import ctypes
import os
import random
import resource
from typing import Any

_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_MS_NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8
_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9
WORKING_FOLDER = "/box"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def die_with_parent() -> None:
    """The kernel kills this process when the one that made it ends."""
    _check("prctl", _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))


def fork_into_namespace() -> int:
    """`os.fork`, the child being process 1 of a new process namespace."""
    own_namespace = os.pidfd_open(os.getpid())
    try:
        _check("unshare(CLONE_NEWPID)", _libc.unshare(_CLONE_NEWPID))
        try:
            return os.fork()
        finally:
            # In the child this is refused and not needed: only the parent forks again.
            _libc.setns(own_namespace, _CLONE_NEWPID)
    finally:
        os.close(own_namespace)


def isolate(limits: dict[str, Any], seccomp_filter: bytes) -> None:
    """In the child: fresh folder, limits, no capabilities, the filter. In this order."""
    _check("unshare", _libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC))
    options = f"size={limits['disk_mb']}m,nr_inodes=4096,mode=0700".encode()
    _check(
        "mount",
        _libc.mount(b"tmpfs", WORKING_FOLDER.encode(), b"tmpfs", _MS_NOSUID_NODEV_NOEXEC, options),
    )
    os.chdir(WORKING_FOLDER)
    limit_resources(limits)
    _drop_capabilities()
    _check("prctl", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    program = _FilterProgram(len(seccomp_filter) // 8, seccomp_filter)
    _check(
        "seccomp",
        _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    )


def limit_resources(limits: dict[str, Any]) -> None:
    """The host watches CPU time; the kernel's limit, in whole seconds and for all calls together,
    only stands behind it should the host stall."""
    megabyte = 1 << 20
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory_mb"] * megabyte),
        (resource.RLIMIT_FSIZE, limits["disk_mb"] * megabyte),
        (resource.RLIMIT_CPU, 600 + int(limits["cpu_time_s"])),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        # Root is exempt from it; the filter forbids processes, and threads need address space.
        (resource.RLIMIT_NPROC, 64),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def take_descriptors(descriptors: list[int]) -> None:
    """Make them 0, 1, 2 .. in this order and close every other one."""
    copies = [os.dup(descriptor) for descriptor in descriptors]
    # Moved out of the way of the numbers they are to take.
    high = [os.dup2(copy, 100 + index, inheritable=False) for index, copy in enumerate(copies)]
    for index, descriptor in enumerate(high):
        os.dup2(descriptor, index)
    os.closerange(len(descriptors), 1024)


def same_random_state() -> None:
    """Python reseeds after a fork; here the same program is to do the same each time."""
    random.seed(0)


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check("capset", _libc.capset(header, nothing))


def _check(what: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
