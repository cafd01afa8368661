"""Cells of one session, by attackers: it ends or goes on, and nothing of it reaches the next."""

import os
import signal
import time

import pytest
from conftest import LIMITS
from host_state import MARK, descendants
from test_forged_results import UNASKED, WITHIN, WRITE

from distil_core.sandbox import CellResult, CellSession, Sandbox


def session_of(sandbox: Sandbox) -> CellSession:
    return sandbox.retried(lambda: CellSession(sandbox))


def run(session: CellSession, source: str) -> CellResult:
    return session.run(source)


def assert_next_session_is_honest(sandbox: Sandbox) -> None:
    session = session_of(sandbox)
    try:
        result = run(session, "import os\nprint('said')\nos.listdir('.'), sorted(globals())[-2:]")
        assert (result.stdout, result.ending) == (b"said\n", None)
        assert result.value == "([], ['__spec__', 'os'])"
    finally:
        session.close()


ATTACKS = UNASKED | {f"within: {name}": source for name, source in WITHIN.items()}


@pytest.mark.parametrize("source", ATTACKS.values(), ids=ATTACKS.keys())
def test_forged_messages_reach_no_other_session(sandbox: Sandbox, source: str) -> None:
    session = session_of(sandbox)
    try:
        for cell in (f"{WRITE}\n{source}", "40 + 2", "40 + 3"):
            if not session.is_alive:
                break
            result = run(session, cell)
            assert result.ending is None or not session.is_alive
            assert result.value is None or isinstance(result.value, str)
    finally:
        session.close()
    assert_next_session_is_honest(sandbox)


STRANGE = {
    "a hanging repr": "class A:\n    def __repr__(self):\n        while True: pass\nA()",
    "a raising repr": "class A:\n    def __repr__(self): raise SystemExit\nA()",
    "a repr of no text": "class A:\n    def __repr__(self): return 7\nA()",
    "a repr of surrogates": "class A:\n    def __repr__(self): return '\\ud800'\nA()",
    "a subclass of text": "class S(str):\n    def __len__(self): return 10**12\nS('x' * 100_000)",
    "no output": "import sys\nsys.stdout = None\nprint('x')",
    "another output": "import sys\nsys.stdout = 3\n1",
    "closed output": "import os\nos.close(1)\nprint('x')",
    "a raising output": "import sys, io\nclass A(io.StringIO):\n    def flush(self): 1/0\nsys.stdout = A()",
    "patched builtins": "import builtins, json, os\nbuiltins.exec = builtins.compile = 3\njson.dumps = os.write = 3",
    "patched ast": "import ast\nast.parse = ast.Expr = 3",
    "no globals": "globals().clear()\n1",
    "no builtins": "__builtins__ = {}\n1",
    "deep source": "(" * 100_000,
    "long source": "x = 1\n" * 200_000,
    "null bytes": "x = '\0'",
    "surrogates": "x = '\ud800'",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "much memory": "x = 'x' * 10**10",
    "many threads": "import threading, time\nfor _ in range(1000):\n    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
    "threads that wait": "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()",
    "a timer": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)",
    "a frozen signal": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    "an exit handler": "import atexit\natexit.register(lambda: open('f', 'w'))",
    "a link out": "import os\nos.symlink('/etc', 'link')\nos.listdir('link')",
    "a raised class": "raise type('E' * 1000, (BaseException,), {'__str__': lambda self: 1 / 0})",
}  # fmt: skip


@pytest.mark.parametrize("source", STRANGE.values(), ids=STRANGE.keys())
def test_strange_cells_end_with_their_session(sandbox: Sandbox, source: str) -> None:
    session = session_of(sandbox)
    try:
        first = run(session, source)
        assert first.exception is None or len(first.exception.type) <= 100
        if session.is_alive:
            second = run(session, "40 + 2")
            assert second.value in ("42", None)
    finally:
        session.close()
    assert_next_session_is_honest(sandbox)


def test_both_ways_of_isolation_have_sessions(either_sandbox: Sandbox) -> None:
    session = session_of(either_sandbox)
    run(session, f"import os\nopen('{MARK}left', 'w').write('x')\nkept = 3")
    assert run(session, "os.listdir('.'), kept").value == f"(['{MARK}left'], 3)"
    session.close()
    assert_next_session_is_honest(either_sandbox)


def test_closing_again_and_a_dead_zygote_do_no_harm(sandbox: Sandbox) -> None:
    session = session_of(sandbox)
    session.close()
    session.close()
    assert not session.is_alive
    assert_next_session_is_honest(sandbox)


def test_a_session_that_stands_still_ends_with_the_host_s_process() -> None:
    """It is killed although it is stopped, with all that holds it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        sandbox = Sandbox(LIMITS)
        session = session_of(sandbox)
        run(
            session,
            "import threading, time\nthreading.Thread(target=time.sleep, args=(900,)).start()",
        )
        os.write(write, b"+")
        time.sleep(900)
        os._exit(0)
    os.read(read, 1)
    below = descendants(pid)
    assert below
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)
    deadline = time.monotonic() + 30
    while any(map(_is_running, below)):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
