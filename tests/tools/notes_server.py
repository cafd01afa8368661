"""An MCP server with a memory, written with the official package: what it is told, it tells."""

import os
import subprocess
import sys
import time

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")
notes: list[str] = []


@server.tool()
def note(text: str, times: int = 1) -> str:
    """Writes a note down."""
    notes.extend([text] * times)
    return f"{len(notes)} notes"


@server.tool()
def read() -> list[str]:
    """All notes."""
    return notes


@server.tool()
def fail(reason: str) -> str:
    """Fails."""
    raise ValueError(reason)


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(3)


@server.tool()
def hang() -> str:
    """Never answers."""
    time.sleep(100_000)
    return "never"


@server.tool()
def where() -> str:
    """Of what it is and what it sees."""
    return f"{os.getpid()} {os.getsid(0)} {os.getcwd()} {sorted(os.environ)}"


@server.tool()
def leave_daemon() -> str:
    """Starts a program that would outlive the server."""
    command = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    left = subprocess.Popen(
        [sys.executable, "-c", command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return str(left.pid)


if __name__ == "__main__":
    server.run("stdio")
