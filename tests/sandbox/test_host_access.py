"""Programs that reach for the host. Each attack prints 'reached' where it gets what it wants."""

import os
import sys
from pathlib import Path

import pytest
from host_state import MARK

from distil_core.sandbox import Limits, Sandbox

PROJECT = Path(__file__).parents[2]
PRELUDE = """
import ctypes, os, resource, signal, socket, subprocess, sys, mmap
libc = ctypes.CDLL(None, use_errno=True)
def made(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
try:
"""
END = """
except (OSError, ValueError) as error:
    print("refused", type(error).__name__)
else:
    print("reached")
"""
PROCESSES = {
    "fork": "os.fork() or os._exit(0)",
    "forkpty": "os.forkpty()",
    "vfork": "made(libc.vfork())",
    "clone": "made(libc.syscall({'x86_64': 56}.get(os.uname().machine, 220), 17, 0, 0, 0, 0))",
    "clone3": "made(libc.syscall(435, 0, 0))",
    "clone of a namespace": "made(libc.clone(0, 0, 0x10000000, 0))",
    "posix_spawn": "os.posix_spawn('/usr/bin/true', ['true'], {})",
    "subprocess": "subprocess.run(['/usr/bin/true'], check=True)",
    "shell": "made(-1 if os.system('true') else 0)",
    "execve": "os.execv('/usr/bin/true', ['true'])",
    "python anew": "os.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
    "memfd and exec": "os.execve(os.memfd_create('x'), ['x'], {})",
    "exec of an own file": (
        "open('own', 'w').write('#!/usr/bin/true'); os.chmod('own', 0o700); os.execv('./own', ['x'])"
    ),
    "fork bomb": "[os.fork() for _ in range(1000)]",
    "double fork": "os.fork() or (os.setsid(), os.fork() or os._exit(0))",
    "setsid": "os.setsid()",
    "setpgid": "os.setpgid(0, 0)",
    "multiprocessing": (
        "import multiprocessing as m; p = m.get_context('fork').Process(target=print); p.start()"
    ),
}
OTHER_PROCESSES = {
    "kill all": "os.kill(-1, 9)",
    "kill its parent": "os.kill(os.getppid(), 9)",
    "kill process 2": "os.kill(2, 9)",
    "kill itself": "os.kill(os.getpid(), 9)",
    "raise_signal": "signal.raise_signal(signal.SIGTERM)",
    "tgkill": "made(libc.tgkill(2, 2, 9))",
    "pidfd_open": "os.pidfd_open(os.getppid())",
    "ptrace its parent": "made(libc.ptrace(16, os.getppid() or 2, 0, 0))",
    "be traced": "made(libc.ptrace(0, 0, 0, 0))",
    "process_vm_readv": "made(libc.process_vm_readv(os.getppid() or 2, 0, 0, 0, 0, 0))",
    "memory of the zygote": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "own memory": "open('/proc/self/mem', 'rb')",
    "descriptors of the zygote": "os.listdir('/proc/1/fd')",
    "environment of others": "open('/proc/1/environ', 'rb').read()",
    "all processes": "os.listdir('/proc')",
    "its parent": "made(os.getppid() or -1)",
    "nice": "os.nice(-5)",
    "nicer": "os.nice(5)",
    "scheduler": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "limits of others": "resource.prlimit(2, resource.RLIMIT_CPU)",
    "higher limits": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "dump": "made(libc.prctl(4, 1, 0, 0, 0))",
}
KERNEL = {
    **{
        f"unshare {flag:#x}": f"made(libc.unshare({flag}))"
        for flag in (
            0x10000000,
            0x20000000,
            0x00020000,
            0x40000000,
            0x08000000,
            0x04000000,
            0x02000000,
        )
    },
    "setns": "made(libc.setns(0, 0))",
    "mount tmpfs": "made(libc.mount(b'tmpfs', b'/box', b'tmpfs', 0, None))",
    "mount proc": "made(libc.mount(b'proc', b'/box', b'proc', 0, None))",
    "remount writable": "made(libc.mount(None, b'/', None, 32 | 4096, None))",
    "unmount": "made(libc.umount2(b'/box', 2))",
    "chroot": "os.chroot('/box')",
    "pivot_root": "made(libc.pivot_root(b'/box', b'/box'))",
    "setuid": "os.setuid(0)",
    "setgroups": "os.setgroups([0])",
    "host name": "socket.sethostname('x')",
    "mknod": "os.mknod('device', 0o60600, os.makedev(8, 0))",
    "mkfifo": "os.mkfifo('pipe')",
    "capset": "made(libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[255] * 6)))",
    "new filter": "made(libc.prctl(22, 2, 0, 0, 0))",
    "personality": "made(libc.personality(0x0040000))",
    "keys": "made(libc.syscall(250, 0, -3, 1))",
    "bpf": "made(libc.syscall(321, 0, 0, 0))",
    "io_uring": "made(libc.syscall(425, 1, 0))",
    "userfaultfd": "made(libc.syscall(323, 0))",
    "perf": "made(libc.syscall(298, 0, 0, -1, -1, 0))",
    "shared memory": "made(libc.shmget(1, 4096, 0o1600))",
    "message queue": "made(libc.msgget(1, 0o1600))",
    "file by handle": "made(libc.open_by_handle_at(-100, 0, 0))",
    "reboot": "made(libc.reboot(0))",
}
FILES = {
    "accounts": "open('/etc/passwd').read()",
    "passwords": "open('/etc/shadow').read()",
    "home of root": "made(0 if len(os.listdir('/root')) > 1 else -1)",  # The way to this Python, perhaps.
    "homes": "os.listdir('/home')",
    "temporary files": "os.listdir('/tmp')",
    "variable files": "os.listdir('/var')",
    "sockets of services": "os.listdir('/run')",
    "kernel settings": "os.listdir('/sys')",
    "shared memory files": "os.listdir('/dev/shm')",
    "terminal": "open('/dev/tty', 'wb')",
    "kernel log": "open('/dev/kmsg')",
    "this repository": f"os.listdir({str(PROJECT)!r})",
    "these settings": f"open({str(PROJECT / 'params.yaml')!r}).read()",
    "lineage": f"open({str(PROJECT / 'mlflow.db')!r}).read()",
    "this environment": f"os.listdir({str(Path(sys.prefix))!r})",
    "through a link": "os.symlink('/etc/passwd', 'link'); open('link').read()",
    "up and out": "open('../../../../../etc/passwd').read()",
    "write the system": f"open('/usr/{MARK}1', 'w')",
    "write the libraries": f"open('/usr/lib/{MARK}2', 'w')",
    "write the root": f"open('/{MARK}3', 'w')",
    "write the devices": f"open('/dev/{MARK}4', 'w')",
    "write the harness": "open('/distil/inside/harness.py', 'a')",
    "remove the harness": "os.remove('/distil/inside/harness.py')",
    "secrets in the environment": "made(0 if 'DISTIL_TEST_SECRET' in os.environ else -1)",
    "environment in memory": (
        "made(0 if b'DISTIL_TEST_SECRET' in b' '.join(ctypes.string_at(p) for p in iter(\n"
        "        lambda s=ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ'), i=iter(range(99)):"
        " s[next(i)], None)) else -1)"
    ),
}
ATTACKS = {**PROCESSES, **OTHER_PROCESSES, **KERNEL, **FILES}


def outcome(sandbox: Sandbox, attack: str) -> str:
    result = sandbox.run_program(f"{PRELUDE}    {attack}{END}")
    assert result.exception is None, result.exception
    assert (result.ending, result.exit_code) == ("exited", 0), result.stderr
    return result.stdout.decode()


@pytest.mark.parametrize("name", ATTACKS)
def test_refused(name: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTIL_TEST_SECRET", "of the host")
    assert outcome(sandbox, ATTACKS[name]).startswith("refused")


def test_refused_in_a_cold_sandbox(cold_sandbox: Sandbox) -> None:
    for name in ("fork", "execve", "kill all", "all processes", "unshare 0x10000000", "mount proc"):
        assert outcome(cold_sandbox, ATTACKS[name]).startswith("refused"), name
    for name in FILES:
        assert outcome(cold_sandbox, ATTACKS[name]).startswith("refused"), name


SOCKETS = """
import socket
opened = []
for family in range(64):
    for kind in (1, 2, 3, 4, 5, 6, 10):
        try:
            opened.append(socket.socket(family, kind))
        except OSError:
            pass
print(len(opened))
"""
MESSAGES = """
import array, socket
left, right = socket.socketpair()
left.send(b"to itself")
assert right.recv(20) == b"to itself"
refused = 0
for attempt in (
    lambda: left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [3]))]),
    lambda: left.sendto(b"x", "/run/systemd/notify"),
    lambda: left.sendto(b"x", "\\0abstract"),
    lambda: left.connect("/run/docker.sock"),
    lambda: left.bind("name"),
    lambda: left.listen(),
    lambda: socket.socketpair(socket.AF_INET),
    lambda: socket.create_connection(("127.0.0.1", 22), timeout=1),
    lambda: socket.getaddrinfo("example.org", 80),
):
    try:
        attempt()
    except (OSError, ValueError):
        refused += 1
print(refused)
"""


def test_no_socket_of_any_family_opens(either_sandbox: Sandbox) -> None:
    assert either_sandbox.run_program(SOCKETS).stdout == b"0\n"


def test_a_pair_of_sockets_reaches_nobody_else(either_sandbox: Sandbox) -> None:
    assert either_sandbox.run_program(MESSAGES).stdout == b"9\n"


@pytest.fixture(scope="module")
def open_sandbox() -> Sandbox:
    return Sandbox(Limits(memory_mb=400), "rlimits_only")


@pytest.mark.parametrize(
    "name", ["accounts", "all processes", "this repository", "through a link", "fork", "execve"]
)
def test_the_same_attack_succeeds_without_isolation(name: str, open_sandbox: Sandbox) -> None:
    with open_sandbox:
        result = open_sandbox.run_program(f"{PRELUDE}    {ATTACKS[name]}{END}")
    if name == "execve":
        # It became another program, which says nothing and succeeds.
        assert (result.ending, result.exit_code, result.stdout) == ("exited", 0, b"")
    else:
        assert result.stdout == b"reached\n"
    assert result.isolation == "rlimits_only"


def test_sockets_open_without_isolation(open_sandbox: Sandbox) -> None:
    with open_sandbox:
        assert int(open_sandbox.run_program(SOCKETS).stdout) >= 2


def test_what_a_program_sees_of_its_user(either_sandbox: Sandbox) -> None:
    source = "import os; print(os.getpid(), os.getuid(), os.getcwd(), os.listdir('.'), os.umask(0))"
    assert either_sandbox.run_program(source).stdout == b"1 65534 /box [] 63\n"
    assert os.getpid() != 1
