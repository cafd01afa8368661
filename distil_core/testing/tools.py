"""Checks of a tool: what it says that can be called, what it answers, and whether it forgets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from types import ModuleType
from typing import Any

from jsonschema.exceptions import SchemaError, ValidationError

from distil_core.problems.base import Problem
from distil_core.testing.checks import Check, CheckFailedError, require, require_all_passed
from distil_core.testing.contract import Subject, contract_checks
from distil_core.testing.junk import JUNK
from distil_core.testing.well_formed import require_feedback
from distil_core.tools import TOOLS
from distil_core.tools.base import Tool, ToolFunction, ToolOptions, ToolResult
from distil_core.tools.reading import calls_in, plain_arguments
from distil_core.tools.schemas import validator_of
from distil_core.verifiers._call_text import Call

_PROBLEMS = (Problem("one problem", "its reference"), Problem("another", "7"))
_OF_TYPE = {"integer": 0, "number": 0.5, "boolean": True, "array": [], "object": {}, "null": None}


class _ToolSubject(Subject[ToolOptions, Tool]):
    def __init__(
        self,
        component: str | ModuleType,
        options: Mapping[str, Any] | None,
        calls: Sequence[str],
    ):
        super().__init__(TOOLS, component, options)
        self._calls = calls

    def calls(self, tool: Tool) -> list[tuple[str, dict[str, Any]]]:
        """Function and arguments of the calls given, and of some with junk that fits the
        schemas."""
        made = [call for text in self._calls for call in calls_in(text, "json")]
        given = [(call.name, plain_arguments(call)) for call in made]
        junk = [
            (function.name, arguments)
            for function in tool.functions
            for arguments in _junk(function)
        ]
        return [*given, *junk]


def tool_checks(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    calls: Sequence[str] = (),
) -> list[Check]:
    """The checks of a tool, named as in settings, with these options.

    calls: some in JSON, such as '{"name": "f", "arguments": {"x": 1}}', to be tried beside junk.
    """
    subject = _ToolSubject(component, options, calls)

    return [
        *contract_checks(subject),
        subject.check(
            "it says what can be called, each with a description and a schema",
            _describes_functions,
            "return ToolFunction(name, description, parameters) of each; the parameters are the "
            'JSON schema of an object: {"type": "object", "properties": {..}}',
        ),
        subject.check(
            "no call makes it raise, and each has a result of text",
            _answers_anything,
            "say in the result's text what is wrong with a call",
        ),
        subject.check(
            "the same calls give the same results in the next rollout",
            _forgets,
            "let `start` forget everything, and draw from its seed alone",
        ),
        subject.check(
            "it can be closed twice, and started after it",
            _closes_twice,
            "release what is held only where it still is",
        ),
    ]


def check_tool(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    calls: Sequence[str] = (),
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    require_all_passed(f"tool {component!s}", tool_checks(component, options, calls))


def _junk(function: ToolFunction) -> Iterator[dict[str, Any]]:
    """Arguments that fit the schema as far as its types say, of texts that make no sense."""
    properties = function.parameters.get("properties", {})
    for text in JUNK:
        arguments = {
            name: _OF_TYPE.get(schema.get("type", "string"), text)
            for name, schema in properties.items()
            if isinstance(schema, Mapping)
        }
        try:
            validator_of(function).validate(arguments)
        except ValidationError:
            continue
        yield plain_arguments(Call(function.name, arguments))


def _describes_functions(subject: _ToolSubject) -> None:
    with closing(subject.build()) as tool:
        functions = tool.functions
        again = tool.functions
    require(bool(functions), "it has no functions")
    require(functions == again, "its functions are others when they are asked for again")
    names = [function.name for function in functions]
    require(len(set(names)) == len(names), f"two functions have one name: {', '.join(names)}")
    for function in functions:
        require(bool(function.name.strip()), "a function has no name")
        require(bool(function.description.strip()), f"nothing is said about {function.name!r}")
        kind = function.parameters.get("type")
        require(kind == "object", f"parameters of {function.name!r} are of type {kind!r}")
        json.dumps(function.schema)
        try:
            validator_of(function)
        except SchemaError as error:
            raise CheckFailedError(f"{function.name!r}: {error.message}") from error


def _answers_anything(subject: _ToolSubject) -> None:
    with closing(subject.build()) as tool:
        for problem in _PROBLEMS:
            for result in _results(tool, subject, problem, 1):
                _require_well_formed(result)


def _require_well_formed(result: object) -> None:
    if not isinstance(result, ToolResult):
        raise CheckFailedError(f"it returned {type(result).__name__}, expected a ToolResult")
    require(isinstance(result.text, str), f"the text is {result.text!r:.80}")
    require_feedback(result.feedback, "with a result")


def _forgets(subject: _ToolSubject) -> None:
    with closing(subject.build()) as tool:
        first = _results(tool, subject, _PROBLEMS[0], 1)
        _results(tool, subject, _PROBLEMS[1], 2)
        again = _results(tool, subject, _PROBLEMS[0], 1)
        tool.finish()
    for one, two in zip(first, again, strict=True):
        require(one == two, f"it answered {one!r:.200}, and after another rollout {two!r:.200}")


def _closes_twice(subject: _ToolSubject) -> None:
    tool = subject.build()
    tool.close()
    tool.close()
    tool.start(_PROBLEMS[0], 1)
    tool.close()


def _results(tool: Tool, subject: _ToolSubject, problem: Problem, seed: int) -> list[ToolResult]:
    tool.start(problem, seed)
    results = []
    for function, arguments in subject.calls(tool):
        try:
            results.append(tool.call(function, arguments))
        except Exception as error:
            raise CheckFailedError(
                f"{function}({json.dumps(arguments)[:100]}) raised {type(error).__name__}: {error}"
            ) from error
    return results
