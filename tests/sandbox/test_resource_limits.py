"""Programs that take all they can get, hang, or fight their limits."""

from typing import Any

import pytest
from host_state import MARK

from distil_core.sandbox import Call, Limits, ProgramResult, Sandbox

IGNORE_SIGNALS = """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, lambda *_: None)
    except (OSError, ValueError):
        pass
"""
TIMEOUTS = {
    "loop": "while True: pass",
    "loop that catches all": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "loop in C": "sum(range(10**15))",
    "big power": "x = 7 ** (7 ** 10)",
    "bad regular expression": "import re; re.match('(a*)*b', 'a' * 40)",
    "loop that ignores signals": IGNORE_SIGNALS + "while True: pass",
    "loop in an exit handler": "import atexit\n@atexit.register\ndef f():\n    while True: pass",
    "loop in a thread": "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()",
    "four loops": (
        "import threading\ndef f():\n    while True: pass\n"
        "for _ in range(4): threading.Thread(target=f).start()"
    ),
    "alarm that resets": (
        "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)\nwhile True: pass"
    ),
    "longer limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, resource.getrlimit("
        "resource.RLIMIT_CPU))\nwhile True: pass"
    ),
    "loop in __del__": "class A:\n    def __del__(self):\n        while True: pass\ndel A().x",
    "yields": "import os\nwhile True: os.sched_yield()",
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_cpu_time_ends_a_program(name: str, sandbox: Sandbox) -> None:
    result = sandbox.run_program(TIMEOUTS[name])
    assert (result.ending, result.exit_code) == ("cpu_timeout", None)
    assert sandbox.limits.cpu_time_s <= result.cpu_s < sandbox.limits.cpu_time_s + 2


def test_cpu_time_ends_a_program_in_a_cold_sandbox(cold_sandbox: Sandbox) -> None:
    assert cold_sandbox.run_program(TIMEOUTS["loop that ignores signals"]).ending == "cpu_timeout"


def test_cpu_time_of_each_call(sandbox: Sandbox) -> None:
    source = "def f(loop):\n    while loop: pass\n    return sum(range(10**6))"
    calls = [Call("f", (0,)), Call("f", (1,)), Call("f", (0,))]
    result = sandbox.run_calls(source, calls)
    assert [call.status for call in result.calls] == ["returned", "cpu_timeout", "not_run"]


@pytest.mark.parametrize(
    "source",
    [
        "import time; time.sleep(1000)",
        "import signal\n" + IGNORE_SIGNALS + "while True: signal.pause()",
        "import threading; threading.Event().wait()",
        "import os; r, w = os.pipe(); os.read(r, 1)",
        "import os; os.read(3, 1000)",
        "import socket; a, b = socket.socketpair(); a.recv(1)",
        "import select; select.select([], [], [])",
    ],
)
def test_wall_time_ends_a_program_that_waits(source: str, sandbox: Sandbox) -> None:
    with Sandbox(Limits(cpu_time_s=0.5, wall_time_s=0.5)) as short:
        result = short.run_program(source)
    assert (result.ending, result.exit_code) == ("wall_timeout", None)
    assert result.cpu_s < 0.5


@pytest.mark.parametrize(
    "source",
    [
        "x = [0]\nwhile True: x += x",
        "x = b'x' * (1 << 40)",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "x = 'a'\nwhile True: x += x",
        "x = {}\nwhile True: x[len(x)] = [len(x)] * 1000",
        "import mmap\nx = []\ntry:\n    while True: x.append(mmap.mmap(-1, 1 << 24))\n"
        "except OSError: raise MemoryError",
    ],
)
def test_memory_is_bounded(source: str) -> None:
    limits = Limits(memory_mb=128, cpu_time_s=8)
    with Sandbox(limits) as sandbox:
        result = sandbox.run_program(source)
    assert result.exception is not None
    assert result.exception.type == "MemoryError"
    assert result.max_rss_mb < limits.memory_mb + 10


def test_threads_are_bounded(sandbox: Sandbox) -> None:
    source = (
        "import threading, time\nn = 0\ntry:\n    for n in range(10000):\n"
        "        threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
        "except (RuntimeError, MemoryError):\n    pass\nprint(n)"
    )
    result = sandbox.run_program(source)
    assert result.ending == "exited", result
    assert 0 < int(result.stdout) < 200


@pytest.mark.parametrize("size", [300 << 20, 16 << 20])
@pytest.mark.parametrize("kind", ["'x' * {}", "b'x' * {}", "[0] * ({} // 8)", "10 ** ({} // 8)"])
def test_a_huge_answer_is_no_answer(size: int, kind: str) -> None:
    limits = Limits(memory_mb=1024, cpu_time_s=3)
    with Sandbox(limits) as sandbox:
        result = sandbox.run_calls(f"def f(): return {kind.format(size)}", [Call("f")])
    (call,) = result.calls
    assert call.encoded is None
    if call.exception is not None:
        assert call.exception.type == "MemoryError"
    else:
        # exited: there was no memory left to say so.
        assert call.status in ("answer_limit", "cpu_timeout", "exited")


FLOODS = {
    "stdout": "while True: print('x' * 1000)",
    "stderr": "import sys\nwhile True: print('x' * 1000, file=sys.stderr)",
    "raw": "import os\nwhile True: os.write(1, b'x' * 65536)",
    "both": "import os\nwhile True: os.write(1, b'x'); os.write(2, b'x')",
    "at the end": "import sys; sys.stdout.write('x' * (1 << 20))",
}


@pytest.mark.parametrize("name", FLOODS)
def test_output_is_bounded(name: str, sandbox: Sandbox) -> None:
    result = sandbox.run_program(FLOODS[name])
    assert result.ending in ("output_limit", *(["cpu_timeout"] if name == "both" else []))
    most = sandbox.limits.output_kb * 1024
    assert max(len(result.stdout), len(result.stderr)) <= most
    assert name == "both" or len(result.stdout + result.stderr) == most


def test_the_disk_is_bounded_and_gone(sandbox: Sandbox) -> None:
    source = f"""
import os
def fill():
    written = 0
    for index in range(10000):
        try:
            with open(f"{MARK}{{index}}", "wb") as file:
                written += file.write(b"x" * 100_000)
        except OSError as error:
            return written, error.errno, len(os.listdir("."))
"""
    for _ in range(2):
        written, error, count = sandbox.run_calls(source, [Call("fill")]).calls[0].value
        assert error == 28
        assert 0.8 * 4e6 < written < 4.3e6
        assert count < 50


def test_short_limits_of_time_do_not_fail_the_self_test() -> None:
    with Sandbox(Limits(cpu_time_s=0.001, wall_time_s=0.001)) as sandbox:
        assert sandbox.self_test().startswith("bubblewrap_zygote")


def test_many_files_and_descriptors_are_bounded(sandbox: Sandbox) -> None:
    source = """
import os
def files():
    try:
        for index in range(100_000): os.close(os.open(str(index), os.O_CREAT))
    except OSError as error:
        return error.errno
def descriptors():
    try:
        return [os.dup(0) for _ in range(10_000)]
    except OSError as error:
        return error.errno
"""
    result = sandbox.run_calls(source, [Call("files"), Call("descriptors")])
    assert [call.value for call in result.calls] == [28, 24]


def test_recursion_raises(sandbox: Sandbox) -> None:
    result = sandbox.run_calls("def f(x): return f(x + 1)", [Call("f", (0,))])
    exception = result.calls[0].exception
    assert exception is not None
    assert exception.type == "RecursionError"
    assert len(exception.lines) <= 8


@pytest.mark.parametrize(
    "source",
    [
        "import sys; sys.setrecursionlimit(10**9)\ndef f(x=()): return f((x,))\nf()",
        "x = ()\nfor _ in range(10**6): x = (x,)\nrepr(x)",
        "import ctypes; ctypes.string_at(0)",
        "import ctypes; ctypes.memset(id(None), 0, 1 << 16)\nprint(None)",
        "import ctypes; ctypes.CDLL(None).abort()",
        "eval('(' * 10**5)",
        "eval('-' * 10**6 + '1')",
    ],
)
def test_a_crash_is_the_programs_own(source: str, sandbox: Sandbox) -> None:
    before = sandbox.num_zygotes_started
    assert _failed(sandbox.run_program(source))
    assert sandbox.num_zygotes_started == before


def _failed(result: ProgramResult) -> Any:
    return result.ending == "cpu_timeout" or result.exception or (result.exit_code or 0) < 0


def test_an_honest_program_within_its_limits(either_sandbox: Sandbox) -> None:
    source = "x = [0] * 1_000_000\nopen('f', 'w').write('x' * 1_000_000)\nprint('y' * 10_000)"
    result = either_sandbox.run_program(source)
    assert (result.ending, result.exit_code) == ("exited", 0)
    assert len(result.stdout) == 10_001
