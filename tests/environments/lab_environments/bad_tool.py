"""A tool that does what no tool should."""

import time
from collections.abc import Mapping
from typing import Any

from distil_core.tools.base import Tool, ToolFunction, ToolOptions, ToolResult

PARAMETERS = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}


class Options(ToolOptions):
    """None."""


class BadTool(Tool):
    @property
    def functions(self) -> tuple[ToolFunction, ...]:
        return (ToolFunction("bad", "Misbehaves.", PARAMETERS),)

    def call(self, function: str, arguments: Mapping[str, Any]) -> ToolResult:
        match arguments["what"]:
            case "hang":
                time.sleep(100_000)
            case "flood":
                return ToolResult("x" * 100_000_000)
            case "lie":
                return ToolResult(7)  # type: ignore[arg-type]
            case "raise":
                raise ValueError("its own trouble")
        return ToolResult("fine")


def build(options: Options) -> BadTool:
    return BadTool()
