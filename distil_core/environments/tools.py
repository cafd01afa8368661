"""Tools between the policy's turns: calls are answered, and a turn without one is the answer."""

from collections.abc import Sequence
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from pydantic import Field, PositiveInt

from distil_core.config.models import Component
from distil_core.environments.base import Environment, EnvironmentOptions, FeedbackItem, Step
from distil_core.errors import ConfigError, EnvironmentFault
from distil_core.problems.base import Problem
from distil_core.sandbox.limits import Isolation
from distil_core.tools import TOOLS
from distil_core.tools.base import Tool, ToolFunction, ToolResult
from distil_core.tools.reading import CallFormat, calls_in, plain_arguments
from distil_core.tools.schemas import misfit, validator_of
from distil_core.verifiers._call_text import Call, CallError
from distil_core.verifiers._final_answer import quoted
from distil_core.verifiers._reasoning import without_reasoning

_LEAST_ISOLATED_FIRST = ("rlimits_only", "bubblewrap_zygote", "bubblewrap_cold")


class Options(EnvironmentOptions):
    """Which tools there are, and how they are called."""

    tools: tuple[Component, ...] = Field(min_length=1)
    """The tools, each with its own options (docs/environments.md)."""
    call_format: CallFormat = "tool_call_tags"
    """`tool_call_tags` (`<tool_call>{..}</tool_call>`, as Hermes and Qwen write), `llama3_json`
    (the whole turn, `<|python_tag|>` before it or not), `json` (the whole turn) or `fenced_python`
    (each fenced block of Python is run)."""
    max_calls_per_turn: PositiveInt = 8
    """Of a turn with more calls, none is made."""

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """The tools."""
        return tuple(("tool", tool.name) for tool in self.tools)

    @property
    def tool_schemas(self) -> tuple[dict[str, Any], ...]:
        """Of all functions of its tools, each of which is made to know them."""
        environment = build(self)
        try:
            return tuple(function.schema for function in environment.functions)
        finally:
            environment.close()

    @property
    def runs_code_under(self) -> Isolation | None:
        """The weakest of its tools'."""
        found = {TOOLS.options(tool.name, tool.options).runs_code_under for tool in self.tools}
        return next((one for one in _LEAST_ISOLATED_FIRST if one in found), None)


class ToolsEnvironment(Environment):
    """Answers a turn's calls in their order, and says what is wrong with one that cannot be made:
    text that cannot be read, an unknown function, arguments that do not fit its schema. A turn
    without a call ends the rollout, and consult.verifier judges it. What a policy thinks before it
    acts is no call. Every turn with a call, readable or not, is marked.
    """

    def __init__(self, options: Options):
        self._options = options
        self._tools: list[Tool] = []
        self._owners: dict[str, tuple[Tool, ToolFunction, Validator]] = {}
        try:
            for tool in options.tools:
                self._add(TOOLS.build(tool.name, tool.options))
            self._code_function = self._function_for_code()
        except BaseException:
            self.close()
            raise

    @property
    def functions(self) -> tuple[ToolFunction, ...]:
        """All that can be called."""
        return tuple(function for _, function, _ in self._owners.values())

    def start(self, problem: Problem, seed: int) -> None:
        for tool in self._tools:
            tool.start(problem, seed)

    def step(self, action: str) -> Step:
        """Make the calls of one turn."""
        limit = self._options.max_calls_per_turn
        try:
            calls = calls_in(
                without_reasoning(action), self._options.call_format, self._code_function
            )
        except CallError as error:
            return _observed([ToolResult(str(error))], [])
        if not calls:
            for tool in self._tools:
                tool.finish()
            return Step(None)
        if len(calls) > limit:
            text = f"{len(calls)} calls in one turn, of which none was made: at most {limit}."
            return _observed([ToolResult(text)], [])
        return _observed([self._made(call) for call in calls], calls)

    def close(self) -> None:
        for tool in self._tools:
            tool.close()

    def _add(self, tool: Tool) -> None:
        self._tools.append(tool)
        for function in tool.functions:
            if function.name in self._owners:
                raise ConfigError(
                    f"environment 'tools': two functions are named {function.name!r}; give one of "
                    "them another name in its tool's options"
                )
            try:
                self._owners[function.name] = tool, function, validator_of(function)
            except SchemaError as error:
                raise ConfigError(
                    f"environment 'tools': the parameters of {function.name!r} are no JSON schema: "
                    f"{error.message}"
                ) from error

    def _function_for_code(self) -> str:
        """What fenced blocks of Python are given to: the one function that takes code."""
        if self._options.call_format != "fenced_python":
            return ""
        taking = [one.name for one in self.functions if one.parameters.get("required") == ["code"]]
        if len(taking) != 1:
            raise ConfigError(
                "environment 'tools': with call_format fenced_python, expected one function whose "
                f"only required argument is 'code', such as the tool python's; found {len(taking)}"
            )
        return taking[0]

    def _made(self, call: Call) -> ToolResult:
        if call.name not in self._owners:
            known = ", ".join(self._owners)
            return ToolResult(f"There is no function {quoted(call.name)}; there are: {known}.")
        tool, function, validator = self._owners[call.name]
        arguments = plain_arguments(call)
        if reason := misfit(function, validator, arguments):
            return ToolResult(reason)
        result = tool.call(function.name, arguments)
        if not isinstance(result, ToolResult) or not isinstance(result.text, str):
            raise EnvironmentFault(
                f"the tool of {function.name!r} has a defect: it gave {result!r:.100}, expected a "
                "ToolResult with text"
            )
        return result


def _observed(results: Sequence[ToolResult], calls: Sequence[Call]) -> Step:
    texts = [result.text for result in results]
    if len(results) > 1:
        pairs = enumerate(zip(calls, texts, strict=True), start=1)
        texts = [f"{number}. {quoted(call.name)[1:-1]}: {text}" for number, (call, text) in pairs]
    text = "\n".join(texts)
    more = [item for result in results for item in result.feedback]
    ran = [result.isolation for result in results if result.isolation is not None]
    return Step(
        observation=text,
        feedback=(FeedbackItem("tool_output", text), *more),
        is_marked=True,
        isolation=ran[0] if ran else None,
    )


def build(options: Options) -> ToolsEnvironment:
    """Raises `ConfigError` for tools that cannot be had together."""
    return ToolsEnvironment(options)
