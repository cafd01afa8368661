"""How the zygote and its children give up their rights before a line of the program is read.

Each program is process 1 of its own process namespace, so that it cannot name other processes. It
sees an empty working folder of its own, holds no capability, and may make only the system calls of
the filter. These functions call the C library directly, as Python 3.11 has none of them.
"""

import ctypes
import fcntl
import os
import random
import resource
from typing import Any

_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
_MS_REMOUNT, _MS_BIND, _MS_RELATIME = 0x20, 0x1000, 1 << 21
_ST_RELATIME = 0x1000
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_SYS_ADMIN = 1 << 21
# These have the same number on every processor.
_CLOSE_RANGE = 436
_SIGKILL = 9
WORKING_FOLDER = "/box"
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
NOBODY = 65534
"""Which user and group a program is, as it sees itself."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def become_nobody() -> None:
    """In a zygote started by the host's root: become the second user, without groups, keeping only
    the right to make namespaces. Ends the process with a message where that user cannot read this
    Python's library, as root could."""
    _check("prctl", _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    _keep_capabilities(_CAP_SYS_ADMIN)
    if not os.access(os.__file__, os.R_OK):
        folder = os.path.dirname(os.__file__)
        raise SystemExit(
            f"programs of root run as another user, who cannot read this Python: {folder} "
            f"(chmod -R go+rX {folder})"
        )


def protect_devices() -> None:
    """Remount the devices so that nobody can change a node's mode, owner or times; writing to the
    device still works. The other flags of the mounts are kept, as the kernel requires."""
    for device in DEVICES:
        now = os.statvfs(device).f_flag
        flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | (now & (_MS_NODEV | _MS_NOEXEC))
        if now & _ST_RELATIME:
            flags |= _MS_RELATIME
        flags |= now & (os.ST_NOATIME | os.ST_NODIRATIME)
        _check(f"mount {device}", _libc.mount(None, device.encode(), None, flags, None))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends. The setting is lost when the process
    changes its user."""
    _check("prctl", _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))


def fork_into_namespace() -> int:
    """Like `os.fork`, with the child as process 1 of a new process namespace."""
    own_namespace = os.pidfd_open(os.getpid())
    try:
        _check("unshare(CLONE_NEWPID)", _libc.unshare(_CLONE_NEWPID))
        try:
            return os.fork()
        finally:
            # In the child this is refused and not needed, as only the parent forks again.
            _libc.setns(own_namespace, _CLONE_NEWPID)
    finally:
        os.close(own_namespace)


def isolate(limits: dict[str, Any], seccomp_filter: bytes) -> None:
    """In the child, in this order: fresh folder, limits, no capabilities, the filter."""
    _check("unshare", _libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC))
    options = f"size={limits['disk_mb']}m,nr_inodes=4096,mode=0700".encode()
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _check(
        "mount",
        _libc.mount(b"tmpfs", WORKING_FOLDER.encode(), b"tmpfs", flags, options),
    )
    os.chdir(WORKING_FOLDER)
    limit_resources(limits)
    _keep_capabilities(0)
    _check("prctl", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    program = _FilterProgram(len(seccomp_filter) // 8, seccomp_filter)
    _check(
        "seccomp",
        _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    )


def limit_resources(limits: dict[str, Any]) -> None:
    """Set the kernel's limits. CPU time is watched by the host; the kernel's limit, in whole
    seconds and for all calls together, only takes over if the host stalls."""
    megabyte = 1 << 20
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory_mb"] * megabyte),
        (resource.RLIMIT_FSIZE, limits["disk_mb"] * megabyte),
        (resource.RLIMIT_CPU, 600 + int(limits["cpu_time_s"])),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        # This limits threads, as the filter forbids processes.
        (resource.RLIMIT_NPROC, 64),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def take_descriptors(descriptors: list[int]) -> None:
    """Renumber these descriptors to 0, 1, 2 .. in this order and close all others."""
    # First moved away from the numbers that they will take.
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, len(descriptors)) for number in descriptors]
    for index, number in enumerate(high):
        os.dup2(number, index)
    close_from(len(descriptors))


def close_from(first: int) -> None:
    """Close every descriptor with this number or a higher one."""
    last = ctypes.c_uint(0xFFFFFFFF)
    _check("close_range", _libc.syscall(_CLOSE_RANGE, ctypes.c_uint(first), last, 0))


def same_random_state() -> None:
    """Reset Python's random state, which a fork reseeds, so that a program does the same each
    time."""
    random.seed(0)


def _keep_capabilities(kept: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable capabilities, the lower halves first.
    sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    _check("capset", _libc.capset(header, sets))


def _check(what: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
