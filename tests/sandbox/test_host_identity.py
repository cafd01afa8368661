"""What a program has of the host's: its user, its device nodes, its descriptors."""

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_state import descendants, needs_bubblewrap

from distil_core.errors import SandboxError
from distil_core.sandbox import Sandbox, _bubblewrap, _other_user
from distil_core.sandbox._other_user import UserMap, other_user
from distil_core.sandbox.inside.confine import DEVICES

PROJECT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has other ids to give")

NODES = """
import os
for path in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
    descriptor = os.open(path, os.O_RDWR)
    assert path == "/dev/null" or os.read(descriptor, 1)
    mode = os.stat(path).st_mode & 0o7777
    for change in (
        lambda: os.chmod(path, mode),
        lambda: os.fchmod(descriptor, mode),
        lambda: os.chmod(f"/dev/../{path}", mode),
        lambda: os.utime(path),
        lambda: os.utime(descriptor),
        lambda: os.chown(path, 0, 0),
        lambda: os.remove(path),
        lambda: os.rename(path, "/dev/other"),
        lambda: os.link(path, "/box/other"),
    ):
        try:
            change()
        except OSError:
            continue
        print(path, "was changed")
"""


def test_device_nodes_do_not_change(either_sandbox: Sandbox) -> None:
    before = [os.stat(device) for device in DEVICES]
    result = either_sandbox.run_program(NODES)
    assert (result.exception, result.stdout) == (None, b"")
    for device, was in zip(DEVICES, before, strict=True):
        now = os.stat(device)
        assert stat.S_ISCHR(now.st_mode)
        assert (now.st_mode, now.st_uid, now.st_mtime_ns) == (
            was.st_mode,
            was.st_uid,
            was.st_mtime_ns,
        )


def _users_below(pid: int) -> set[int]:
    users = set()
    for process in descendants(pid):
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("Uid:"))
        users.add(int(line.split()[1]))
    return users


@needs_root
def test_roots_programs_are_another_user_each() -> None:
    if other_user() is None:
        pytest.skip("this root has no other id to give")
    with Sandbox() as one, Sandbox() as two:
        users = []
        for sandbox in (one, two):
            with sandbox.session("def f(): pass"):
                assert sandbox.zygote_pid is not None
                users.append(_users_below(sandbox.zygote_pid))
        first, second = users
    # Bubblewrap's own process stays root's.
    assert first - {os.geteuid()} != second - {os.geteuid()}
    assert len(first - {os.geteuid()}) == len(second - {os.geteuid()}) == 1


WAYS_BACK = """
import ctypes, os
libc = ctypes.CDLL(None)
for way in (
    lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgroups([0]),
    lambda: os.setresgid(0, 0, 0), lambda: os.seteuid(0),
    lambda: libc.syscall(105, 0) and 1 / 0, lambda: libc.syscall(117, 0, 0, 0) and 1 / 0,
):
    try:
        way()
        print("back")
    except (OSError, ZeroDivisionError):
        pass
print(os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups())
"""


def test_there_is_no_way_back_to_root(either_sandbox: Sandbox) -> None:
    (line,) = either_sandbox.run_program(WAYS_BACK).stdout.decode().splitlines()
    assert line.startswith("65534 65534 65534 65534 ")
    assert os.geteuid() != 0 or line.endswith("[]")


@pytest.mark.parametrize(
    ("ranges", "lowest", "highest"),
    [
        ("0 0 4294967295\n", 2_000_000_000, 2_000_000_000 + (1 << 24)),
        ("0 1000 1\n1 100000 65536\n", 65_000, 65_534),
        ("0 100000 65536\n", 65_000, 65_534),
        ("0 1000 1\n", None, None),
    ],
)
def test_ids_are_of_those_that_there_are(
    ranges: str,
    lowest: int | None,
    highest: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "uid_map").write_text(ranges, encoding="ascii")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        _other_user, "open", lambda *_, **__: (tmp_path / "uid_map").open(), raising=False
    )
    users = {other_user() for _ in range(200)}
    if lowest is None or highest is None:
        assert users == {None}
    else:
        assert all(user is not None and lowest <= user < highest for user in users)
        assert len(users) > 1


def test_an_ordinary_user_has_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert other_user() is None


def test_a_bubblewrap_that_ends_first_maps_nobody() -> None:
    users = UserMap(2_000_000_000)
    with subprocess.Popen(["true"], pass_fds=users.pass_fds):
        users.write()
    users.close()


@needs_bubblewrap
@needs_root
def test_root_without_the_right_to_map_says_what_to_do() -> None:
    code = (
        "from distil_core.sandbox import Sandbox\n"
        "from distil_core.errors import SandboxError\n"
        "try:\n    Sandbox().self_test()\nexcept SandboxError as error:\n    print(error)"
    )
    drop = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-all"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "allow the capabilities CAP_SETUID and CAP_SETGID" in done.stdout, done.stderr


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """More than the 1,024 that loops over descriptors often end at."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3000
    if before[1] != resource.RLIM_INFINITY and before[1] < wanted:
        pytest.skip(f"only {before[1]} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
    yield
    for descriptor in held:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


OPEN = """
import os
found = []
for number in range(100_000):
    try:
        os.fstat(number)
        found.append(number)
    except OSError:
        pass
print(found, flush=True)
os._exit(9)
"""


@pytest.mark.parametrize("isolation", ["bubblewrap_zygote", "bubblewrap_cold", "rlimits_only"])
def test_a_program_has_four_descriptors(isolation: str, many_open_files: None) -> None:
    with Sandbox(isolation=isolation) as sandbox:  # type: ignore[arg-type]
        result = sandbox.run_program(OPEN)
        assert result.stdout == b"[0, 1, 2, 3]\n"
        assert (result.ending, result.exit_code) == ("exited", 9)
        assert sandbox.num_zygotes_started == (2 if isolation == "bubblewrap_cold" else 1)


@needs_bubblewrap
@needs_root
def test_a_python_that_other_users_cannot_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "os.py"
    closed.write_bytes(Path(os.__file__).read_bytes())
    closed.chmod(0o600)
    mounts = [*_bubblewrap._mounts(), "--ro-bind", str(closed), os.__file__]
    monkeypatch.setattr(_bubblewrap, "_mounts", lambda: mounts)
    with Sandbox() as sandbox, pytest.raises(SandboxError, match=r"cannot read .*chmod -R go\+rX"):
        sandbox.run_program("print(1)")
