"""What outlives a program, a zygote or the host's own process: nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import LIMITS
from host_state import MARK, descendants, needs_bubblewrap

from distil_core.errors import SandboxError
from distil_core.sandbox import Call, Limits, Sandbox

PROJECT = Path(__file__).parents[2]
DOUBLE = "def f(x): return 2 * x"
LEAVE = f"""
import os, sys, builtins, json, random, math
open("{MARK}left", "w").write("x")
os.environ["LEFT"] = "x"
sys.modules["left"] = sys
builtins.left = math.left = json.left = 1
json.dumps = lambda *a, **k: "forged"
random.seed(99)
sys.setrecursionlimit(50_000)
SECRET = "a secret " + "of the first program"
print(len(SECRET), random.random())
"""
LOOK = """
import gc, os, sys, builtins, json, random, math
seen = [os.listdir("."), os.environ.get("LEFT"), "left" in sys.modules, hasattr(builtins, "left"),
        hasattr(math, "left"), json.dumps([1]), sys.getrecursionlimit()]
wanted = "of the first" + " program"
gc.unfreeze()
held = [o for o in gc.get_objects() if type(o) is dict
        for v in list(o.values()) if type(v) is str and v != wanted and wanted in v and "LOOK" not in v]
print(seen, len(held), random.random())
"""


def test_the_next_program_sees_nothing_of_this_one(either_sandbox: Sandbox) -> None:
    before = either_sandbox.run_program(LOOK).stdout
    assert either_sandbox.run_program(LEAVE).exit_code == 0
    after = either_sandbox.run_program(LOOK).stdout
    assert after == before
    assert after.startswith(b"[[], None, False, False, False, '[1]', 1000] 0 ")


def test_the_same_program_gives_the_same_output(sandbox: Sandbox) -> None:
    source = "import random; print(random.random(), hash('x'), {*'abcdef'}, id(None))"
    outputs = {sandbox.run_program(source).stdout.rsplit(b" ", 1)[0] for _ in range(3)}
    assert len(outputs) == 1
    with Sandbox(LIMITS) as another:
        assert another.run_program(source).stdout.rsplit(b" ", 1)[0] in outputs


def test_a_dead_zygote_is_replaced_between_programs() -> None:
    with Sandbox(LIMITS) as sandbox:
        for number in range(3):
            assert sandbox.run_calls(DOUBLE, [Call("f", (number,))]).calls[0].value == 2 * number
            _kill_all(sandbox)
        assert sandbox.run_program("print(1)").stdout == b"1\n"
        assert sandbox.num_zygotes_started == 4


def _kill_all(sandbox: Sandbox) -> None:
    """Return once the zygote is gone: on a busy machine it may answer once more before it dies."""
    assert sandbox.zygote_pid is not None
    started = {pid: _started(pid) for pid in descendants(sandbox.zygote_pid)}
    assert started
    os.kill(sandbox.zygote_pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while any(_started(pid) == time_ for pid, time_ in started.items()):
        assert time.monotonic() < until, "the zygote outlives bubblewrap"
        time.sleep(0.01)


def test_a_zygote_killed_in_the_middle_costs_no_program() -> None:
    """It is killed while a program that needs about 0.3 s of CPU time runs."""
    source = "def f(x):\n    for n in range(4_000_000): x += 1\n    return x"
    with Sandbox(Limits(cpu_time_s=20, wall_time_s=200)) as sandbox:
        sandbox.run_program("")
        first = sandbox.zygote_pid
        assert first is not None
        killer = threading.Timer(0.05, os.kill, (first, signal.SIGKILL))
        killer.start()
        result = sandbox.run_calls(source, [Call("f", (1,)), Call("f", (2,))])
        killer.join()
        assert [call.value for call in result.calls] == [4_000_001, 4_000_002]
        assert sandbox.zygote_pid != first
        assert sandbox.num_zygotes_started == 2


def test_a_zygote_that_always_dies_is_the_sandboxs_error() -> None:
    with Sandbox(Limits(cpu_time_s=20, wall_time_s=200)) as sandbox:
        sandbox.run_program("")
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.002):
                # Only processes of this sandbox: the first below is bubblewrap itself.
                pid = sandbox.zygote_pid
                if pid is not None and pid in descendants(os.getpid()):
                    os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            with pytest.raises(SandboxError, match="died 3 times"):
                sandbox.run_program("while True: pass")
        finally:
            stop.set()
            thread.join()


@needs_bubblewrap
def test_no_process_outlives_a_killed_host() -> None:
    source = (
        "from distil_core.sandbox import Limits, Sandbox\n"
        "s = Sandbox(Limits(cpu_time_s=500, wall_time_s=500))\ns.run_program('')\n"
        "print('ready', flush=True)\ns.run_program('while True: pass')"
    )
    host = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, cwd=PROJECT)
    assert host.stdout is not None
    with host.stdout:
        assert host.stdout.readline() == b"ready\n"
    until = time.monotonic() + 60
    while len(below := descendants(host.pid)) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(below) >= 3
    started = {pid: _started(pid) for pid in below}
    host.kill()
    host.wait()
    while any(_started(pid) == time_ for pid, time_ in started.items()):
        assert time.monotonic() < until, "processes outlive their host"
        time.sleep(0.05)


def _started(pid: int) -> str | None:
    """When a living process began, which tells it from a later one of the same number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def test_closing_ends_everything() -> None:
    before = descendants(os.getpid())
    sandbox = Sandbox(LIMITS)
    sandbox.run_program("")
    assert len(descendants(os.getpid())) > len(before)
    sandbox.close()
    sandbox.close()
    assert descendants(os.getpid()) <= before
    assert sandbox.run_program("print(2)").stdout == b"2\n"
    sandbox.close()


def test_an_interrupted_conversation_is_not_continued(sandbox: Sandbox) -> None:
    with pytest.raises(KeyboardInterrupt), sandbox.session(DOUBLE):
        raise KeyboardInterrupt
    assert sandbox.run_calls(DOUBLE, [Call("f", (4,))]).calls[0].value == 8


def test_two_sandboxes_at_once() -> None:
    with Sandbox(LIMITS) as one, Sandbox(LIMITS) as two:
        with one.session(DOUBLE) as first, two.session("def f(x): return -x") as second:
            for number in range(20):
                assert first.call(Call("f", (number,))).value == 2 * number
                assert second.call(Call("f", (number,))).value == -number
        assert one.zygote_pid != two.zygote_pid


@needs_bubblewrap
def test_threads_take_turns(warm_sandbox: Sandbox) -> None:
    answers: dict[int, int] = {}

    def work(start: int) -> None:
        for number in range(start, start + 10):
            answers[number] = warm_sandbox.run_calls(DOUBLE, [Call("f", (number,))]).calls[0].value

    threads = [threading.Thread(target=work, args=(10 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: 2 * number for number in range(40)}


def test_a_forked_process_gets_a_zygote_of_its_own() -> None:
    with Sandbox(LIMITS) as sandbox:
        sandbox.run_program("")
        pid = os.fork()
        if pid == 0:
            try:
                ours = sandbox.run_program("print(5)").stdout == b"5\n"
                sandbox.close()
                os._exit(0 if ours else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert sandbox.run_program("print(6)").stdout == b"6\n"
        assert sandbox.num_zygotes_started == 1


@pytest.mark.parametrize("isolation", ["bubblewrap_zygote", "bubblewrap_cold"])
def test_without_bubblewrap_nothing_runs(
    isolation: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = descendants(os.getpid())
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        Sandbox(isolation=isolation).run_program("print(1)")  # type: ignore[arg-type]
    assert descendants(os.getpid()) <= before


def test_a_bubblewrap_that_cannot_isolate_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match=r"No permissions .*userns"):
        Sandbox().run_program("print(1)")


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs every other test as one")
def test_an_ordinary_user_is_isolated_too(tmp_path: Path) -> None:
    """With the sandbox alone, copied where that user may read it, and the base interpreter."""
    import pydantic

    packages = Path(pydantic.__file__).parents[1]
    folder = tmp_path / "code"
    for name in ("pydantic", "pydantic_core", "annotated_types", "typing_inspection"):
        _copy(packages / name, folder / name)
    for module in ("typing_extensions.py",):
        _copy(packages / module, folder / module)
    _copy(PROJECT / "distil_core", folder / "distil_core")
    for parent in (folder, *folder.parents[:-1]):
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    source = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\nimport os\nassert os.getuid() == 65534\n"
        "from distil_core.sandbox import Call, Limits, Sandbox\n"
        "with Sandbox(Limits(cpu_time_s=1)) as s:\n    print(s.self_test())\n"
        "    print(s.run_calls('def f(x): return 2 * x', [Call('f', (21,))]).calls[0].value)\n"
        "    print(s.run_program('while True: pass').ending)\n"
    )
    python = os.path.realpath(sys.executable)
    if not python.startswith("/usr/"):
        # One in root's home is hidden from others: the system's own of the same version, then.
        python = f"/usr/bin/python3.{sys.version_info.minor}"
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-B", "-c", source],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["42", "cpu_timeout"]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-r", source, target], check=True)
    subprocess.run(["chmod", "-R", "a+rX", target], check=True)
