"""The tools of a real MCP server over its streams: told as it tells them, and gone with a
rollout."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distil_core.environments import ENVIRONMENTS
from distil_core.errors import ConfigError, EnvironmentFault
from distil_core.problems.base import Problem
from distil_core.testing import Check, tool_checks
from distil_core.tools import TOOLS
from distil_core.tools.mcp import McpServer

pytest.importorskip("mcp", reason="the optional package mcp is not installed")

SERVER = str(Path(__file__).with_name("notes_server.py"))
COMMAND = [sys.executable, SERVER]
ONE, TWO = Problem("one", "a"), Problem("two", "b")


def built(**options: Any) -> McpServer:
    tool = TOOLS.build("mcp", {"command": COMMAND, **options})
    assert isinstance(tool, McpServer)
    return tool


@pytest.fixture
def notes() -> Iterator[McpServer]:
    tool = built()
    tool.start(ONE, 1)
    yield tool
    tool.close()


def text(tool: McpServer, function: str, **arguments: Any) -> str:
    return tool.call(function, arguments).text


def test_functions_are_those_of_the_server(notes: McpServer) -> None:
    functions = {function.name: function for function in notes.functions}
    assert set(functions) == {"note", "read", "fail", "die", "hang", "where", "leave_daemon"}
    assert functions["note"].description == "Writes a note down."
    assert functions["note"].parameters["required"] == ["text"]
    assert functions["note"].parameters["properties"]["times"]["type"] == "integer"


def test_calls_are_answered_and_remembered_within_the_rollout_only(notes: McpServer) -> None:
    assert text(notes, "note", text="a", times=2) == "2 notes"
    assert text(notes, "read") == "a\na"
    notes.start(TWO, 2)
    assert text(notes, "note", text="b") == "1 notes"
    notes.start(ONE, 1)
    assert text(notes, "note", text="c") == "1 notes"


def test_one_server_for_all_rollouts_where_that_is_said() -> None:
    tool = built(is_stateless=True)
    first = text(tool, "where").split()[0]
    tool.start(TWO, 2)
    assert text(tool, "where").split()[0] == first
    tool.close()
    wait_until_gone(int(first))


def test_failures_of_a_call_are_results(notes: McpServer) -> None:
    assert "Error executing tool fail" in text(notes, "fail", reason="because")
    assert "nope" in text(notes, "nope")
    assert "valid string" in text(notes, "note", text=3)
    assert text(notes, "note", text="still there") == "1 notes"


def test_a_server_that_dies_is_no_answer_and_the_next_rollout_has_a_new_one(
    notes: McpServer,
) -> None:
    with pytest.raises(EnvironmentFault, match=r"notes_server.py.* does not answer"):
        text(notes, "die")
    notes.start(TWO, 2)
    assert text(notes, "note", text="b") == "1 notes"


def test_it_runs_apart_with_its_own_variables_in_a_folder_that_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAB_KEY", "secret")
    monkeypatch.setenv("LAB_OTHER", "secret")
    tool = built(variables={"LAB": "here"}, passed_variables=["LAB_KEY"])
    pid, session, folder, names = text(tool, "where").split(maxsplit=3)
    assert pid == session
    assert int(pid) != os.getpid()
    assert Path(folder).is_dir()
    assert list(Path(folder).iterdir()) == []
    assert {"LAB", "LAB_KEY"} <= set(eval(names))
    assert "LAB_OTHER" not in eval(names)
    tool.close()
    assert not Path(folder).exists()
    assert text(built(directory=str(tmp_path)), "where").split()[2] == str(tmp_path)


def test_what_the_server_started_ends_with_it(notes: McpServer) -> None:
    server = int(text(notes, "where").split()[0])
    daemon = int(text(notes, "leave_daemon"))
    assert is_running(daemon)
    notes.start(TWO, 2)
    wait_until_gone(server)
    wait_until_gone(daemon)


def test_servers_end_with_a_process_that_is_killed() -> None:
    """As a worker is whose step takes too long."""
    program = (
        "import sys, time\nfrom distil_core.tools import TOOLS\n"
        f"tool = TOOLS.build('mcp', {{'command': {COMMAND!r}}})\n"
        "print(tool.call('where', {}).text.split()[0], tool.call('leave_daemon', {}).text)\n"
        "sys.stdout.flush()\ntool.call('hang', {})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for pid in pids:
        wait_until_gone(pid)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"command": ["no-such-program"]}, "cannot start no-such-program"),
        ({"command": [sys.executable, "-c", "import sys; sys.exit('my words')"]}, "my words"),
        ({"command": []}, "at least 1"),
        ({"functions": ["read", "write"]}, "has the tools die, fail, .*; expected read, write"),
        ({"passed_variables": ["NOT_SET_HERE"]}, "not set here: NOT_SET_HERE"),
    ],
)
def test_servers_that_cannot_be_had_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        built(**options)


def test_two_servers_side_by_side_in_the_environment() -> None:
    tools = [
        {"name": "mcp", "options": {"command": COMMAND, "functions": ["note", "read"]}},
        {"name": "mcp", "options": {"command": COMMAND, "functions": ["read"], "prefix": "b_"}},
    ]
    options = ENVIRONMENTS.options("tools", {"tools": tools})
    names = [schema["function"]["name"] for schema in options.tool_schemas]
    assert names == ["note", "read", "b_read"]
    environment = ENVIRONMENTS.build("tools", {"tools": tools})
    environment.start(ONE, 1)
    turn = '<tool_call>{"name": "note", "arguments": {"text": "x", "times": "2"}}</tool_call>'
    step = environment.step(turn)
    assert step.observation is not None
    assert "do not fit" in step.observation
    environment.step(turn.replace('"2"', "2"))
    both = '<tool_call>[{"name": "read"}, {"name": "b_read"}]</tool_call>'
    step = environment.step(both)
    assert step.observation == '1. read: x\nx\n2. b_read: {"result": []}'
    environment.close()


CALLS = ['[{"name": "note", "arguments": {"text": "a"}}, {"name": "read"}]']
CHECKS = tool_checks("mcp", {"command": COMMAND, "functions": ["note", "read"]}, CALLS)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: Check) -> None:
    check()


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    # Nobody may have asked yet how it ended.
    return status != "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)
