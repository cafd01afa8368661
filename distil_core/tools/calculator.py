"""A calculator: exact arithmetic with numbers of any size that fits."""

from collections.abc import Mapping
from typing import Any

from distil_core.tools._exact_arithmetic import CannotCalculate, calculate, written
from distil_core.tools.base import Tool, ToolFunction, ToolOptions, ToolResult

_PARAMETERS = {
    "type": "object",
    "properties": {
        "expression": {"type": "string", "description": "Such as (3 + 4) * 2.5 or 2 ** 10."}
    },
    "required": ["expression"],
    "additionalProperties": False,
}


class Options(ToolOptions):
    """How it is called."""

    name: str = "calculator"
    """The function's name."""


class Calculator(Tool):
    """Numbers, + - * / // % ** and parentheses, without rounding: 1/3 is a fraction. Expressions
    of 1,000 characters and numbers of 20,000 bits are the limit."""

    def __init__(self, options: Options):
        self._function = ToolFunction(
            options.name, "Calculates an arithmetic expression exactly.", _PARAMETERS
        )

    @property
    def functions(self) -> tuple[ToolFunction, ...]:
        return (self._function,)

    def call(self, function: str, arguments: Mapping[str, Any]) -> ToolResult:
        """The value, or why there is none."""
        try:
            return ToolResult(written(calculate(arguments["expression"])))
        except CannotCalculate as reason:
            return ToolResult(str(reason))


def build(options: Options) -> Calculator:
    """The calculator."""
    return Calculator(options)
