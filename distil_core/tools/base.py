"""The contract of a tool: it answers the calls that a policy writes between its turns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.sandbox.limits import Isolation
from distil_core.verifiers.base import FeedbackItem

__all__ = ["FeedbackItem", "Tool", "ToolFunction", "ToolOptions", "ToolResult"]


class ToolOptions(ComponentOptions):
    """Base of a tool's `Options`."""

    @property
    def runs_code_under(self) -> Isolation | None:
        """The isolation under which it runs code that the policy wrote; None where it runs none."""
        return None


@dataclass(frozen=True)
class ToolFunction:
    """One thing that can be called. description: for the policy. parameters: JSON schema of the
    arguments, of one object."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    @property
    def schema(self) -> dict[str, Any]:
        """In the form of OpenAI's API, which chat templates take as well."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class ToolResult:
    """What a call gave. text: for the policy, failures of the call included. feedback: for the
    expert, besides the text. isolation: under which code of the policy ran; None where none did."""

    text: str
    feedback: tuple[FeedbackItem, ...] = ()
    isolation: str | None = None


class Tool(ABC):
    """What a policy may call in one rollout after another. The same problem, seed and calls must
    give the same results in any process; nothing of one rollout may reach another."""

    @property
    @abstractmethod
    def functions(self) -> tuple[ToolFunction, ...]:
        """What can be called; the same for all problems."""

    @abstractmethod
    def call(self, function: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Answer a call of one of the functions, with arguments that fit its schema and whose texts
        are valid UTF-8. What is wrong with a call is said in the result's text. Raises nothing but
        `EnvironmentFault`, for failures that are not the policy's."""

    def start(self, problem: Problem, seed: int) -> None:  # noqa: B027 - many keep no state
        """Begin a rollout: whatever the one before left is gone."""

    def finish(self) -> None:  # noqa: B027 - many keep no state
        """Release what the rollout held, which has ended. Not called for one that was cut: the next
        `start` does it then."""

    def close(self) -> None:  # noqa: B027 - many hold nothing to release
        """Release processes and files. May be called more than once, and `start` after it."""
