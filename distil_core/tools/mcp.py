"""The tools of an MCP server, which runs beside the rollout and is spoken to by its streams."""

import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from distil_core.errors import ConfigError, EnvironmentFault
from distil_core.problems.base import Problem
from distil_core.tools.base import Tool, ToolFunction, ToolOptions, ToolResult

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from mcp import Client

_LAUNCHER = Path(__file__).with_name("_with_lifeline.py")
_NUM_PAGES = 100
_WORDS_CHARACTERS = 1000


class Options(ToolOptions):
    """The server, which is trusted: it runs as you do, outside of any sandbox."""

    command: tuple[str, ...] = Field(min_length=1)
    """The program and its arguments, such as `[python, -m, my_server]`."""
    directory: str | None = None
    """The folder that it runs in; null for an empty one of its own, which ends with it."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Environment variables that it gets besides HOME, LOGNAME, PATH, SHELL, TERM and USER. They
    are recorded: no credentials."""
    passed_variables: tuple[str, ...] = ()
    """Names of environment variables that it gets with the values they have here, such as a key."""
    functions: tuple[str, ...] = ()
    """Which of its tools may be called, by name; empty for all."""
    prefix: str = ""
    """Stands before each function's name, to tell those of two servers apart."""
    is_stateless: bool = False
    """Whether one server may serve all rollouts, since it remembers nothing. Otherwise each rollout
    has a new one."""


class McpServer(Tool):
    """Names, descriptions and schemas are those that the server gives. Of a result, its text is
    read; a failure that the server tells of is a result as well. A server that is gone is an
    `EnvironmentFault`."""

    def __init__(self, options: Options):
        self._options = options
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._client: Client | None = None
        self._is_used = False
        try:
            client = self._start_server()
            self._functions = self._listed(client)
        except BaseException as error:
            self.close()
            if isinstance(error, EnvironmentFault):
                raise ConfigError(str(error)) from error
            raise

    @property
    def functions(self) -> tuple[ToolFunction, ...]:
        return self._functions

    def start(self, problem: Problem, seed: int) -> None:
        self.finish()

    def finish(self) -> None:
        """End the server, where it may remember something."""
        if self._is_used and not self._options.is_stateless:
            self.close()

    def call(self, function: str, arguments: Mapping[str, Any]) -> ToolResult:
        """What the server answers. Raises `EnvironmentFault` where it does not."""
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        client = self._client or self._start_server()
        self._is_used = True
        name = function.removeprefix(self._options.prefix)
        try:
            result = self._run(partial(client.call_tool, name, dict(arguments)))
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                raise self._fault(error) from error
            return ToolResult(f"The call failed: {error}")
        except Exception as error:
            raise self._fault(error) from error
        return ToolResult(_text_of(result))

    def close(self) -> None:
        """End the server and all that it started."""
        self._client = self._portal = None
        self._is_used = False
        self._stack.close()

    def _start_server(self) -> "Client":
        try:
            from anyio.from_thread import start_blocking_portal
            from mcp import Client, StdioServerParameters, stdio_client
        except ImportError as error:
            raise ConfigError(
                f"the tool mcp needs the package mcp ({error}): `pip install 'distil[mcp]'`"
            ) from error
        self._is_used = False
        with ExitStack() as stack:
            directory = self._options.directory
            if directory is None:
                temporary = tempfile.TemporaryDirectory(
                    prefix="distil-mcp-", ignore_cleanup_errors=True
                )
                directory = stack.enter_context(temporary)
            self._words = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            server = StdioServerParameters(
                command=sys.executable,
                args=["-I", str(_LAUNCHER), _lifeline(stack), *self._options.command],
                env=self._environment(),
                cwd=directory,
            )
            try:
                self._portal = stack.enter_context(start_blocking_portal())
                client = stack.enter_context(
                    self._portal.wrap_async_context_manager(
                        Client(stdio_client(server, errlog=self._words))
                    )
                )
            except Exception as error:
                raise self._fault(error) from error
            self._client = client
            self._stack = stack.pop_all()
        return client

    def _environment(self) -> dict[str, str]:
        passed = self._options.passed_variables
        if missing := [name for name in passed if name not in os.environ]:
            raise ConfigError(
                f"the tool mcp passes on environment variables that are not set here: "
                f"{', '.join(missing)}"
            )
        return self._options.variables | {name: os.environ[name] for name in passed}

    def _listed(self, client: "Client") -> tuple[ToolFunction, ...]:
        try:
            found: list[Any] = []
            cursor: str | None = None
            for _ in range(_NUM_PAGES):
                page = self._run(partial(client.list_tools, cursor=cursor))
                found += page.tools
                cursor = page.next_cursor
                if not cursor:
                    break
        except Exception as error:
            raise self._fault(error) from error
        wanted = self._options.functions
        names = [tool.name for tool in found]
        if not names or set(wanted) - set(names):
            raise ConfigError(
                f"the MCP server {self._shown} has the tools {', '.join(sorted(names)) or 'none'}; "
                f"expected {', '.join(wanted) or 'at least one'}"
            )
        return tuple(
            ToolFunction(
                f"{self._options.prefix}{tool.name}",
                tool.description or tool.name,
                tool.input_schema,
            )
            for tool in found
            if not wanted or tool.name in wanted
        )

    def _run(self, ask: Any) -> Any:
        assert self._portal is not None, "a server was started"
        return self._portal.call(ask)

    @property
    def _shown(self) -> str:
        return repr(" ".join(self._options.command))[:200]

    def _fault(self, error: Exception) -> EnvironmentFault:
        self._words.seek(0)
        words = self._words.read()[-_WORDS_CHARACTERS:].strip()
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        said = f"; it wrote: {words}" if words else ""
        return EnvironmentFault(
            f"the MCP server {self._shown} does not answer ({type(error).__name__}: {error}){said}"
        )


def _lifeline(stack: ExitStack) -> str:
    """The name of a socket of this process, by which the server's group ends with it, and with the
    stack."""
    name = f"distil-{os.getpid()}-{secrets.token_hex(8)}"
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(f"\0{name}")
    listener.listen(1)
    return name


def _text_of(result: Any) -> str:
    """A result's text. What is no text is named in its place."""
    parts = [
        part.text if part.type == "text" else f"[{part.type}, which is no text]"
        for part in result.content
    ]
    structured = getattr(result, "structured_content", None)
    if not parts and structured is not None:
        parts = [json.dumps(structured, ensure_ascii=False)]
    return "\n".join(parts) or "(no output)"


def build(options: Options) -> McpServer:
    """Starts the server once, to learn what it offers. Raises `ConfigError` where it does not
    start, or does not offer what is asked for."""
    return McpServer(options)
