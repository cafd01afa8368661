"""Verifier of tool use: compares the response's calls with the reference's, by meaning."""

import difflib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers._call_text import Call, CallError, CallFormat, kind_of, read_calls
from distil_core.verifiers._final_answer import quoted
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers._stored_answer import stored_answer
from distil_core.verifiers._tool_schemas import tool_schemas, with_defaults
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)

_MAX_LINES = 20
_MISSING: Any = object()


class Options(VerifierOptions):
    """Calls of tools, by name and arguments."""

    call_format: CallFormat = "tool_call_tags"
    """`tool_call_tags` (`<tool_call>{..}</tool_call>`, as Hermes and Qwen write), `json` (the whole
    response) or `action_lines` (`Action: name`, then `Action Input: {..}`)."""
    ordered: bool = True
    """Whether the order of the calls counts."""
    tools_field: str = "tools"
    """Of the problem's metadata, a list of tool schemas in OpenAI's form or in xLAM's flat one, or
    none."""


class ToolCallsVerifier(Verifier):
    """Malformed: calls that cannot be read. That is a `<tool_call>` that is not closed; anything
    but strict JSON (also duplicate keys, NaN, numbers beyond 400 characters or exponents beyond
    400, nesting beyond 64); a call that is not an object with a `name` and with `arguments` that
    are an object, null, or a string that holds one of these; two keys for the same thing; more than
    64 calls or 100,000 characters. Wrong: readable calls that differ from the reference's, which
    includes missing calls and a tool that does not exist. What a response thinks before it answers
    is ignored.

    Equal are 1 and 1.0, objects in any order of keys, and a missing argument and one with the
    default of the tool's schema. Not equal are 1 and true, 1 and "1", and lists in another order.
    Reward 1 when all calls are equal.
    """

    def __init__(self, options: Options, reveal: str):
        self._options = options
        self._reveals = reveal == "expected_outputs"

    def verify(self, problem: Problem, response: str) -> Verification:
        """Judge the calls. Raises `VerifierError` where the reference or the schemas in the
        metadata cannot be read. The reference is JSON: one call, a list of calls, or `[]` for
        none."""
        schemas, expected = self._schemas(problem), _expected_calls(problem)
        try:
            found = read_calls(without_reasoning(response), self._options.call_format)
        except CallError as error:
            return self._verification("malformed", [str(error)])
        lines = list(self._differences(expected, found, schemas))
        answer = stored_answer(self._normal_form(found, schemas))
        return self._verification("wrong" if lines else "correct", lines, answer)

    def check_problem(self, problem: Problem) -> None:
        self._schemas(problem)
        _expected_calls(problem)

    def _verification(
        self, verdict: Verdict, lines: list[str], answer: str | None = None
    ) -> Verification:
        if len(lines) > _MAX_LINES:
            lines = [*lines[:_MAX_LINES], f"{len(lines) - _MAX_LINES} more differences."]
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=tuple(FeedbackItem("tool_output", line) for line in lines),
            answer=answer,
        )

    def _normal_form(self, calls: list[Call], schemas: Mapping[str, Mapping[str, Any]]) -> str:
        """One JSON text for all calls that `_differences` counts as equal."""
        written = [
            json.dumps(
                [call.name, with_defaults(call.arguments, schemas.get(call.name, {}))],
                default=lambda number: {"number": str(Fraction(number))},
                sort_keys=True,
            )
            for call in calls
        ]
        return f"[{', '.join(written if self._options.ordered else sorted(written))}]"

    def _schemas(self, problem: Problem) -> dict[str, Mapping[str, Any]]:
        """Each tool's parameters, by name."""
        where = f"metadata field {self._options.tools_field!r} of problem {problem.problem_id}"
        try:
            return tool_schemas(problem.metadata, self._options.tools_field)
        except (CallError, AttributeError, KeyError, TypeError) as error:
            raise VerifierError(
                f"{where} must be a list of tool schemas such as "
                '[{"name": "f", "parameters": {"properties": {..}}}]: '
                f"{type(error).__name__}: {error}"
            ) from error

    def _differences(
        self, expected: list[Call], found: list[Call], schemas: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[str]:
        pairs = _in_order if self._options.ordered else _in_any_order
        for number, (wanted, given) in enumerate(pairs(expected, found, schemas), start=1):
            if given is None and wanted is not None:
                name = f": {_shown(_as_json(wanted))}" if self._reveals else ""
                yield f"Call {number} is missing{name}."
            elif wanted is None and given is not None:
                yield f"Call {number} ({quoted(given.name)}) is one too many."
            elif given is not None and wanted is not None:
                yield from self._of_calls(f"Call {number}", wanted, given, schemas)

    def _of_calls(
        self, which: str, wanted: Call, given: Call, schemas: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[str]:
        which = f"{which} ({quoted(given.name)})"
        if schemas and given.name not in schemas:
            yield f"{which}: there is no such tool{self._expected(wanted.name)}."
        elif given.name != wanted.name:
            yield f"{which} is not the tool that is needed here{self._expected(wanted.name)}."
        else:
            schema = schemas.get(wanted.name, {})
            for path, value, other in _argument_differences(wanted, given, schema):
                if other is _MISSING:
                    yield f"{which}: argument {path} is missing{self._expected(value)}."
                elif value is _MISSING:
                    yield f"{which}: argument {path} should not be given."
                elif (kind := kind_of(value)) != kind_of(other):
                    kinds = f"is {kind_of(other)} and should be {kind}"
                    yield f"{which}: argument {path} {kinds}{self._expected(value)}."
                else:
                    yield f"{which}: argument {path} differs{self._expected(value)}."

    def _expected(self, value: Any) -> str:
        return f"; it should be {_shown(value)}" if self._reveals else ""


def _expected_calls(problem: Problem) -> list[Call]:
    try:
        return read_calls(problem.reference, "json")
    except CallError as error:
        raise VerifierError(f"the reference of problem {problem.problem_id}: {error}") from error


def _in_order(
    expected: list[Call], found: list[Call], schemas: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[Call | None, Call | None]]:
    """Pairs by position, aligned by the tools' names where the numbers of calls differ."""
    if len(expected) == len(found):
        yield from zip(expected, found, strict=True)
        return
    names = [call.name for call in expected], [call.name for call in found]
    matcher = difflib.SequenceMatcher(None, *names, autojunk=False)
    for _, start, end, start_found, end_found in matcher.get_opcodes():
        wanted, given = expected[start:end], found[start_found:end_found]
        for index in range(max(len(wanted), len(given))):
            yield (
                wanted[index] if index < len(wanted) else None,
                given[index] if index < len(given) else None,
            )


def _in_any_order(
    expected: list[Call], found: list[Call], schemas: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[Call | None, Call | None]]:
    """Each call of the response with the expected call nearest to it: an equal one, else one of the
    same tool with the fewest differences, else any that is left. Missing calls come last."""

    def distance(wanted: Call, given: Call) -> int:
        if wanted.name != given.name:
            return 1_000_000
        return sum(1 for _ in _argument_differences(wanted, given, schemas.get(wanted.name, {})))

    ranked = sorted(
        (distance(wanted, given), position, index)
        for index, wanted in enumerate(expected)
        for position, given in enumerate(found)
    )
    partner: dict[int, int] = {}
    for _, position, index in ranked:
        if position not in partner and index not in partner.values():
            partner[position] = index
    for position, given in enumerate(found):
        yield (expected[partner[position]] if position in partner else None, given)
    for index, wanted in enumerate(expected):
        if index not in partner.values():
            yield wanted, None


def _argument_differences(
    wanted: Call, given: Call, schema: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Path, expected value and given value of each argument that differs; `_MISSING` for an absent
    one."""
    yield from _differences_of(
        with_defaults(wanted.arguments, schema), with_defaults(given.arguments, schema), ""
    )


def _differences_of(wanted: Any, given: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(wanted, dict) and isinstance(given, dict):
        for key in [*wanted, *(key for key in given if key not in wanted)]:
            inner = f"{path}.{key}" if path else key
            one, other = wanted.get(key, _MISSING), given.get(key, _MISSING)
            if one is _MISSING or other is _MISSING:
                yield quoted(inner), one, other
            else:
                yield from _differences_of(one, other, inner)
    elif isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
        for index, (one, other) in enumerate(zip(wanted, given, strict=True)):
            yield from _differences_of(one, other, f"{path}[{index}]")
    elif type(wanted) is not type(given) or wanted != given:
        yield quoted(path), wanted, given


def _as_json(call: Call) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}


def _shown(value: Any) -> str:
    return quoted(json.dumps(value, default=_plain_number), 500)


def _plain_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def build(options: Options, reveal: str) -> ToolCallsVerifier:
    """reveal: with 'expected_outputs' the feedback names the right tool, calls and values."""
    return ToolCallsVerifier(options, reveal)
