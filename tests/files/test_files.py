"""Files are whole or absent, whatever interrupts their writing (3 s)."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distil_core.errors import DataError
from distil_core.files import atomic_path, remove_leftovers, write_text
from distil_core.policy.model import save_policy
from distil_core.tables.schemas import PROBLEMS, ProblemRow
from distil_core.tables.store import write_table

PROJECT = Path(__file__).parents[2]
OLD = "old content\n"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces_a_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "notes.txt"
    write_text(target, "Grüße\n")
    assert target.read_bytes() == "Grüße\n".encode()
    write_text(target, OLD)
    assert target.read_text() == OLD
    assert names(target.parent) == ["notes.txt"]


def test_replaces_a_folder_with_all_that_was_in_it(tmp_path: Path) -> None:
    target = tmp_path / "policy"
    for generation in ("first", "second"):
        with atomic_path(target) as temporary:
            (temporary / "nested").mkdir(parents=True)
            (temporary / "nested" / generation).write_text(generation)
        assert names(target / "nested") == [generation]
    assert names(tmp_path) == ["policy"]


def test_replaces_a_link_and_leaves_what_it_points_to(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "weights").write_text(OLD)
    target = tmp_path / "policy"
    target.symlink_to(cache)
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("new")
    assert not target.is_symlink()
    assert (target / "weights").read_text() == "new"
    assert (cache / "weights").read_text() == OLD


@pytest.mark.parametrize("failure", [ValueError("wrong row"), KeyboardInterrupt()])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_failure_leaves_what_was_there(
    tmp_path: Path, is_folder: bool, failure: BaseException
) -> None:
    target = tmp_path / "artifact"
    with atomic_path(target) as temporary:
        _write(temporary, is_folder, OLD)
    before = names(tmp_path)

    def fail_halfway() -> None:
        with atomic_path(target) as temporary:
            _write(temporary, is_folder, "half")
            raise failure

    with pytest.raises(type(failure)):
        fail_halfway()
    assert (target / "part" if is_folder else target).read_text() == OLD
    assert names(tmp_path) == before


def _write(path: Path, is_folder: bool, text: str) -> None:
    if is_folder:
        path.mkdir()
        path = path / "part"
    path.write_text(text)


WRITER = """
import sys, time
from pathlib import Path
from distil_core.files import atomic_path

target, is_folder = Path(sys.argv[1]), sys.argv[2] == "folder"
with atomic_path(target) as temporary:
    if is_folder:
        temporary.mkdir()
    with (temporary / "part" if is_folder else temporary).open("w") as file:
        file.write("half of it")
        file.flush()
        print("writing", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_writer_killed_in_the_middle_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "artifact"
    with atomic_path(target) as temporary:
        _write(temporary, kind == "folder", OLD)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target), kind],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout
    assert writer.stdout.readline() == "writing\n"
    writer.kill()
    assert writer.wait() == -signal.SIGKILL
    assert (target / "part" if kind == "folder" else target).read_text() == OLD
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["artifact"]
    with atomic_path(target) as temporary:
        _write(temporary, kind == "folder", "new")
    assert (target / "part" if kind == "folder" else target).read_text() == "new"
    assert names(tmp_path) == ["artifact"]


LIBRARY = """
import os, signal, sys, threading
from pathlib import Path
import torch
from safetensors.torch import save_file
from distil_core.files import atomic_path

target = Path(sys.argv[1])

def kill_while_it_writes():
    while not any(path.is_file() for path in target.parent.rglob("*")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill_while_it_writes, daemon=True).start()
while True:
    with atomic_path(target) as temporary:
        save_file({"weights": torch.zeros(30_000_000)}, temporary)
"""


@pytest.mark.parametrize("how", ["write", "remove"])
def test_what_a_library_wrote_beside_its_file_goes_with_it(tmp_path: Path, how: str) -> None:
    """safetensors writes to a temporary file of its own, beside the path it is given."""
    target = tmp_path / "state*.safetensors"
    writer = subprocess.run(
        [sys.executable, "-c", LIBRARY, str(target)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert writer.returncode == -signal.SIGKILL, writer.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left, "the kill came while a file was there"
    assert not target.exists()
    if how == "write":
        write_text(target, OLD)
    else:
        remove_leftovers(target)
    assert names(tmp_path) == ([target.name] if how == "write" else [])


def test_a_living_writers_file_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target), "file"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout
    assert writer.stdout.readline() == "writing\n"
    before = names(tmp_path)
    remove_leftovers(target)
    assert names(tmp_path) == before != []
    writer.kill()
    writer.wait()
    remove_leftovers(target)
    assert names(tmp_path) == []


REPLACER = """
import sys
from pathlib import Path
from distil_core.files import atomic_path

generation = 0
while True:
    generation += 1
    with atomic_path(Path(sys.argv[1])) as temporary:
        temporary.mkdir()
        for part in range(40):
            (temporary / str(part)).write_text(str(generation))
    print(generation, flush=True)
"""


def test_a_folder_is_never_seen_in_parts_while_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    whole = sorted(str(part) for part in range(40))
    seen = 0
    for _ in range(3):
        replacer = subprocess.Popen(
            [sys.executable, "-c", REPLACER, str(target)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert replacer.stdout
        replacer.stdout.readline()
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            try:
                handle = os.open(target, os.O_RDONLY)
            except FileNotFoundError:
                continue  # between the two renames
            try:
                listed = sorted(os.listdir(handle))
                # An older generation may be deleted under our handle, never the present one.
                is_present = os.path.samestat(os.fstat(handle), os.stat(target))
            except FileNotFoundError:
                is_present = False
            finally:
                os.close(handle)
            if is_present:
                assert listed == whole
                seen += 1
        replacer.kill()
        replacer.wait()
        if target.exists():
            assert names(target) == whole
            assert len({path.read_text() for path in target.iterdir()}) == 1
    assert seen > 10


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 24 kB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a tiny tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"this process may not mount: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("what", ["text", "table", "policy"])
def test_a_full_disk_is_said_and_leaves_what_was_there(
    tiny_disk: Path, what: str, tokenizer: Any, new_model: Any
) -> None:
    """Three writers, three ways to fail: Python's own files, pyarrow's, and those of Rust."""
    target = tiny_disk / "artifact"
    write_text(target, OLD)
    rows = [
        ProblemRow(str(i), str(i * 7919 % 10007) * 9, reference="", metadata="")
        for i in range(9000)
    ]
    writers = {
        "text": lambda: write_text(target, "x" * 100_000),
        "table": lambda: write_table(target, PROBLEMS, rows, {}),
        "policy": lambda: save_policy(new_model(), tokenizer, target),
    }
    with pytest.raises(DataError, match=r"no space left for .*artifact: 0\.0 MB free; free some"):
        writers[what]()
    assert target.read_text() == OLD
    assert names(tiny_disk) == ["artifact"]
