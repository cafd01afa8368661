"""A tool with one defect, which its option names."""

from collections.abc import Mapping
from typing import Any

from distil_core.problems.base import Problem
from distil_core.tools.base import FeedbackItem, Tool, ToolFunction, ToolOptions, ToolResult

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


class Options(ToolOptions):
    """What is wrong."""

    defect: str = ""
    """Its name; empty for none."""


class Broken(Tool):
    def __init__(self, defect: str):
        self._defect = defect
        self._num_calls = 0

    @property
    def functions(self) -> tuple[ToolFunction, ...]:
        match self._defect:
            case "nothing":
                return ()
            case "silent":
                return (ToolFunction("count", "", TEXT),)
            case "no object":
                return (ToolFunction("count", "Counts.", {"type": "string"}),)
            case "no schema":
                return (ToolFunction("count", "Counts.", {**TEXT, "required": 7}),)
        return (ToolFunction("count", "Counts.", TEXT),)

    def start(self, problem: Problem, seed: int) -> None:
        if self._defect != "remembers":
            self._num_calls = 0

    def call(self, function: str, arguments: Mapping[str, Any]) -> ToolResult:
        self._num_calls += 1
        if self._defect == "raises" and arguments["text"] == "nan":
            raise ValueError("nan")
        if self._defect == "lies":
            return ToolResult(7)  # type: ignore[arg-type]
        if self._defect == "unknown kind":
            return ToolResult("1", (FeedbackItem("gossip", "1"),))
        return ToolResult(str(self._num_calls))

    def close(self) -> None:
        if self._defect == "closes once":
            del self._num_calls


def build(options: Options) -> Broken:
    return Broken(options.defect)
