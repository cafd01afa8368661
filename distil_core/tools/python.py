"""Python in the sandbox: variables and files last from turn to turn, and end with the rollout."""

from collections.abc import Mapping
from typing import Any

from distil_core.errors import EnvironmentFault, SandboxError
from distil_core.problems.base import Problem
from distil_core.sandbox import CellResult, CellSession, Isolation, Limits, Sandbox
from distil_core.sandbox._zygote import ZygoteDied
from distil_core.tools.base import FeedbackItem, Tool, ToolFunction, ToolOptions, ToolResult
from distil_core.verifiers._code import ending_text, exception_text

_PARAMETERS = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python to execute."}},
    "required": ["code"],
    "additionalProperties": False,
}


class Options(ToolOptions):
    """The sandbox that code runs in."""

    name: str = "python"
    """The function's name."""
    limits: Limits = Limits()
    """Time and output: of one call. Memory and files: of all calls of a rollout together."""
    isolation: Isolation = "bubblewrap_zygote"
    """How code is kept apart from the host. rlimits_only is NO isolation."""
    packages: tuple[str, ...] = ("numpy",)
    """What else than the standard library may be imported, where it is installed."""

    @property
    def runs_code_under(self) -> Isolation:
        """As set."""
        return self.isolation


class Python(Tool):
    """Executes code as a notebook does: what it printed, then the value of its last expression,
    then the exception. One process serves all calls of a rollout, and stands still between them;
    where it ends (a limit, a crash), the next call has a new one, without the variables and files,
    and is told so.
    """

    def __init__(self, options: Options):
        self._options = options
        self._sandbox = Sandbox(options.limits, options.isolation, options.packages)
        self._session: CellSession | None = None
        self._function = ToolFunction(
            options.name,
            "Executes Python code. Variables and files are kept for the next call. What is printed "
            "and the value of the last expression are returned.",
            _PARAMETERS,
        )

    @property
    def functions(self) -> tuple[ToolFunction, ...]:
        return (self._function,)

    def start(self, problem: Problem, seed: int) -> None:
        self.finish()

    def finish(self) -> None:
        """End the rollout's process, and with it all that it left."""
        session, self._session = self._session, None
        try:
            if session is not None:
                session.close()
        except ZygoteDied:
            # It is gone, which is what was asked for.
            self._sandbox.close()
        if self._options.isolation == "rlimits_only":
            # Without isolation, files lie in the folder of the zygote, which goes with it.
            self._sandbox.close()

    def call(self, function: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Execute the code. Raises `EnvironmentFault` where the sandbox died, and `SandboxError`
        where there is no isolation, which is not a matter of one rollout."""
        self._sandbox.ensure_ready()
        try:
            if self._session is None:
                self._session = self._sandbox.retried(lambda: CellSession(self._sandbox))
            result = self._session.run(arguments["code"])
        except (SandboxError, ZygoteDied) as error:
            self.close()
            raise EnvironmentFault(f"the sandbox of the tool {function!r}: {error}") from error
        if not self._session.is_alive:
            self._session = None
        return self._result(result)

    def close(self) -> None:
        self.finish()
        self._sandbox.close()

    def _result(self, result: CellResult) -> ToolResult:
        limits = self._options.limits
        parts = [_text(result.stdout), _text(result.stderr)]
        if result.value is not None:
            parts.append(result.value)
        feedback: tuple[FeedbackItem, ...] = ()
        if result.exception is not None:
            said = exception_text(result.exception, limits)
            parts.append(said if result.compiled else f"This is no Python, and nothing ran: {said}")
            feedback = (FeedbackItem("execution_trace", said),)
        if result.ending is not None:
            how = _how_it_ended(result, limits)
            parts.append(f"The process {how}; its variables and files are gone.")
        text = "\n".join(part for part in parts if part)
        return ToolResult(text or "(no output)", feedback, result.isolation)


def _how_it_ended(result: CellResult, limits: Limits) -> str:
    if result.ending in ("violation", "answer_limit"):
        return "was ended: it wrote to where its answers come from"
    if result.ending == "exited" and (result.exit_code or 0) >= 0:
        return "ended itself"
    return ending_text(str(result.ending), limits, result.exit_code)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "backslashreplace").rstrip("\n")


def build(options: Options) -> Python:
    """Nothing is started before the first call."""
    return Python(options)
