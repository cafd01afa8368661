"""Whatever comes through a zygote's socket, the host says that the sandbox died: it raises nothing
else, and nothing that came is a result."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from distil_core.errors import SandboxError
from distil_core.sandbox import Call, Sandbox

BROKEN = Path(__file__).parent / "broken_zygote.py"
MESSAGES = {
    "no JSON": b"\xff",
    "deep": b"[" * 30_000,
    "empty object": b"{}",
    "list": b"[]",
    "null": b"null",
    "number": b"1",
    "huge number": b"9" * 30_000,
    "error": b'{"error":{"a":[1]}}',
    "end of another kind": b'{"exit":"0","cpu_s":0.0,"max_rss_mb":1.0}',
    "end without times": b'{"exit":0}',
    "end with a list of times": b'{"exit":0,"cpu_s":[],"max_rss_mb":1.0}',
    "other answer": b'{"value":41}',
    "started and more": b'{"started":true,"exit":0}',
}


def install(folder: Path, when: str, message: bytes, count: int) -> None:
    words = [sys.executable, str(BROKEN), when, message.hex(), str(count)]
    line = " ".join(map(shlex.quote, words))
    command = folder / "bwrap"
    command.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
    command.chmod(0o755)


@pytest.mark.parametrize(("when", "count"), [("ready", 1), ("fork", 1), ("end", 0), ("end", 2)])
@pytest.mark.parametrize("name", MESSAGES)
def test_a_malformed_message_is_a_dead_zygote(
    name: str, when: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, when, MESSAGES[name], count)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = os.listdir("/proc/self/fd")
    with Sandbox() as sandbox, pytest.raises(SandboxError, match=r"died 3 times|does not start"):
        sandbox.run_calls("def f(): return 1", [Call("f")])
    assert os.listdir("/proc/self/fd") == before
