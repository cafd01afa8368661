"""Memory of the kernel's that no limit of a process counts: what could take it is refused, what is
left is little, and ordinary programs do not notice."""

import pytest

from distil_core.sandbox import Limits, Sandbox

PRELUDE = """
import ctypes, fcntl, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
is_x86 = os.uname().machine == "x86_64"
def call(x86_64, aarch64, *arguments):
    if libc.syscall(x86_64 if is_x86 else aarch64, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
file = os.open("own", os.O_RDWR | os.O_CREAT)
folder = os.open(".", os.O_RDONLY)
reading, writing = os.pipe()
left, right = socket.socketpair()
LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0)
try:
"""
END = """
except OSError as error:
    print(error.errno)
else:
    print("reached")
"""
REFUSED = {
    "flock": "fcntl.flock(file, fcntl.LOCK_EX)",
    "lockf": "fcntl.lockf(file, fcntl.LOCK_EX)",
    "F_SETLK": "fcntl.fcntl(file, fcntl.F_SETLK, LOCK)",
    "F_SETLKW": "fcntl.fcntl(file, fcntl.F_SETLKW, LOCK)",
    "F_OFD_SETLK": "fcntl.fcntl(file, 37, LOCK)",
    "F_OFD_SETLKW": "fcntl.fcntl(file, 38, LOCK)",
    "a lock by the C library": "call(72, 25, file, 6, ctypes.c_char_p(LOCK))",
    "a command with high bits": "call(72, 25, file, ctypes.c_long(1 << 32 | 6), ctypes.c_char_p(LOCK))",
    "lease": "fcntl.fcntl(file, 1024, fcntl.F_RDLCK)",
    "notification of a folder": "fcntl.fcntl(folder, 1026, 1 << 31 | 4)",
    "owner of a descriptor's signals": "fcntl.fcntl(reading, 8, os.getpid())",
    "signal of a descriptor": "fcntl.fcntl(reading, 10, 12)",
    "signals at input": "fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)",
    "signals by ioctl": "fcntl.ioctl(reading, 0x5452, struct.pack('i', 1))",
    "larger pipe": "fcntl.fcntl(writing, 1031, 1 << 20)",
    "seals": "fcntl.fcntl(0, 1033, 1)",
    "inotify": "call(294, 26, 0)",
    "fanotify": "call(300, 262, 0, 0)",
    "larger sending buffer": "left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)",
    "larger receiving buffer": "left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 30)",
    "buffer by force": "left.setsockopt(socket.SOL_SOCKET, 32, 1 << 30)",
    "filter of a socket": "left.setsockopt(socket.SOL_SOCKET, 26, bytes(16))",
    "pair of datagrams": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "pair of packets": "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
    "messages with descriptors": "left.sendmsg([b'x'], [(1, 1, struct.pack('i', file))])",
    "memory file": "os.memfd_create('x')",
    "secret memory": "call(447, 447, 0)",
    "shared memory": "call(29, 194, 0, 4096, 0o1600)",
    "semaphores": "call(64, 190, 0, 100, 0o1600)",
    "message queue": "call(68, 186, 0, 0o1600)",
    "POSIX message queue": "call(240, 180, b'/x', 0o102, 0o600, 0)",
    "key": "call(248, 217, b'user', b'x', b'y', 1, -3)",
    "request of a key": "call(249, 218, b'user', b'x', 0, -3)",
    "key ring": "call(250, 219, 0, -3, 1)",
    "timer": "call(222, 107, 1, 0, ctypes.byref(ctypes.c_int()))",
    "timer file": "call(283, 85, 1, 0)",
    "signal file": "call(282, 74, -1, ctypes.byref(ctypes.c_ulong(0)), 8, 0)",
    "queued signal": "call(129, 138, os.getpid(), 10, bytes(128))",
    "io_uring": "call(425, 425, 1, bytes(120))",
    "asynchronous input": "call(206, 0, 128, ctypes.byref(ctypes.c_ulong(0)))",
    "userfaultfd": "call(323, 282, 0)",
    "perf": "call(298, 241, bytes(128), 0, -1, -1, 0)",
    "bpf": "call(321, 280, 0, bytes(128), 128)",
    "splice": "call(275, 76, reading, 0, writing, 0, 1, 0)",
    "pages into a pipe": "call(278, 75, writing, bytes(16), 1, 0)",
    "attribute of a file": "os.setxattr('own', 'user.x', b'y')",
    "locked memory": "call(149, 228, 0, 4096)",
    "landlock": "call(444, 444, 0, 0, 1)",
    "mount by descriptor": "call(430, 430, b'tmpfs', 0)",
    "memory protection keys": "call(330, 289, 0, 0)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_not_permitted(name: str, sandbox: Sandbox) -> None:
    result = sandbox.run_program(f"{PRELUDE}    {REFUSED[name]}{END}")
    assert (result.ending, result.exit_code, result.stdout) == ("exited", 0, b"1\n"), result


ORDINARY = {
    "asyncio": """
import asyncio
async def main():
    queue = asyncio.Queue()
    async def put():
        for number in range(3):
            await queue.put(number)
            await asyncio.sleep(0.001)
    task = asyncio.create_task(put())
    got = [await queue.get() for _ in range(3)]
    await task
    got.append(await asyncio.get_running_loop().run_in_executor(None, sum, [1, 2]))
    return got + await asyncio.gather(*[asyncio.to_thread(abs, -n) for n in range(4, 6)])
assert asyncio.run(main()) == [0, 1, 2, 3, 4, 5]
""",
    "threads": """
import threading
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(abs, range(-100, 0))) == 5050
lock, done = threading.Lock(), threading.Event()
threading.Timer(0.01, done.set).start()
assert done.wait(20)
""",
    "files": """
import os, shutil, tempfile
from pathlib import Path
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "a").write_text("x" * 1000)
    os.replace(Path(folder, "a"), Path(folder, "b"))
    shutil.copy(Path(folder, "b"), Path(folder, "c"))
    assert sorted(os.listdir(folder)) == ["b", "c"]
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("y")
    file.seek(0)
    assert file.read() == "y"
with open("/dev/null", "w") as null, open("/dev/urandom", "rb") as random:
    null.write("gone")
    assert len(random.read(8)) == 8
for _ in range(1000):
    os.close(os.open("f", os.O_CREAT | os.O_RDWR))
""",
    "pipes and descriptors": """
import fcntl, os, select
reading, writing = os.pipe()
os.set_blocking(reading, False)
assert fcntl.fcntl(reading, fcntl.F_GETFL) & os.O_NONBLOCK
os.set_inheritable(writing, True)
os.write(os.dup(writing), b"x")
assert select.select([reading], [], [], 20)[0] == [reading]
assert os.read(reading, 9) == b"x"
""",
    "a pair of sockets": """
import socket
left, right = socket.socketpair()
left.settimeout(20)
right.setblocking(False)
right.send(b"x" * 100)
assert left.makefile("rb").read(100) == b"x" * 100
left.shutdown(socket.SHUT_RDWR)
""",
    "time and random": """
import random, secrets, time, uuid
start = time.monotonic()
time.sleep(0.001)
assert time.monotonic() > start and time.time() > 1e9 and time.process_time() > 0
random.random(); random.SystemRandom().random(); secrets.token_hex(); uuid.uuid4(); uuid.uuid1()
""",
    "an alarm": """
import signal
def ring(*_): raise TimeoutError
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    signal.pause()
except TimeoutError:
    print("rung")
""",
    "a database in memory": """
import sqlite3
base = sqlite3.connect(":memory:")
base.execute("CREATE TABLE t (a)")
base.execute("INSERT INTO t VALUES (1)")
assert base.execute("SELECT a FROM t").fetchall() == [(1,)]
""",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_programs_do_not_notice(name: str, either_sandbox: Sandbox) -> None:
    result = either_sandbox.run_program(ORDINARY[name])
    assert (result.ending, result.exit_code, result.stderr) == ("exited", 0, b""), result


HELD = {
    "pairs of sockets": """
import socket
held, total = [], 0
try:
    while True:
        held.append(socket.socketpair())
        for end in held[-1]:
            end.setblocking(False)
            try:
                while True: total += end.send(b"x" * SIZE)
            except BlockingIOError: pass
except OSError as error:
    assert error.errno == 24
print(total)
""",
    "pipes": """
import os
held, total = [], 0
try:
    while True:
        held.append(os.pipe())
        os.set_blocking(held[-1][1], False)
        try:
            while True: total += os.write(held[-1][1], b"x" * SIZE)
        except BlockingIOError: pass
except OSError as error:
    assert error.errno == 24
print(total)
""",
}


@pytest.mark.parametrize("size", [1, 65536])
@pytest.mark.parametrize("kind", HELD)
def test_what_descriptors_hold_is_little(kind: str, size: int) -> None:
    with Sandbox(Limits(cpu_time_s=20, wall_time_s=100)) as sandbox:
        result = sandbox.run_program(HELD[kind].replace("SIZE", str(size)))
    assert (result.ending, result.exit_code) == ("exited", 0), result
    assert int(result.stdout) < 16 << 20
