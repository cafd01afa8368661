"""An environment that does what an action says: answers by what it has seen, hangs, dies, lies."""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from distil_core.environments.base import (
    Environment,
    EnvironmentOptions,
    FeedbackItem,
    Step,
)
from distil_core.errors import DistilError, EnvironmentFault, SandboxError
from distil_core.problems.base import Problem


class Options(EnvironmentOptions):
    """How it behaves."""

    log: str = ""
    """A file to which each start and step is appended."""
    is_judging: bool = False
    """What `judges` says."""
    fails_to_build: bool = False
    """Whether `build` raises."""

    @property
    def judges(self) -> bool:
        return self.is_judging


class UnknownFault(EnvironmentFault):
    """An error that cannot be made from its pickled form."""

    def __init__(self, text: str, more: object):
        super().__init__(text)
        self.more = more


class Scripted(Environment):
    def __init__(self, options: Options):
        self._options = options

    def start(self, problem: Problem, seed: int) -> None:
        self._log(f"start {seed}")
        if problem.prompt == "not mine":
            raise EnvironmentFault("this problem is none of mine")
        self._seen = hashlib.blake2b(f"{problem.prompt} {seed}".encode(), digest_size=8)

    def step(self, action: str) -> Step:
        self._log("step")
        self._seen.update(action.encode())
        verb, _, rest = action.partition(" ")
        special = getattr(self, f"_{verb}", None)
        answer = None if special is None else special(rest)
        if answer is not None:
            return answer
        item = FeedbackItem("tool_output", f"saw {action}")
        return Step(f"{self._seen.hexdigest()} {action}", feedback=(item,), is_marked=True)

    def close(self) -> None:
        self._log("close")

    def _log(self, line: str) -> None:
        if self._options.log:
            with open(self._options.log, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    def _end(self, rest: str) -> Step:
        if self._options.is_judging:
            return Step(None, reward=1.0, verdict="correct")
        return Step(None)

    def _hang(self, rest: str) -> None:
        while True:
            time.sleep(60)

    def _flood(self, rest: str) -> None:
        while True:
            sys.stdout.write("endless output\n" * 1000)

    def _pause(self, rest: str) -> None:
        time.sleep(float(rest))

    def _die(self, rest: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _dieonce(self, path: str) -> None:
        if not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _exit(self, rest: str) -> None:
        sys.exit(3)

    def _raise(self, rest: str) -> None:
        raise ValueError("its own trouble")

    def _fault(self, rest: str) -> None:
        raise UnknownFault("the service is away", more=object)

    def _sandbox(self, rest: str) -> None:
        raise SandboxError("no isolation here")

    def _other(self, rest: str) -> None:
        raise DistilError("something general")

    def _long(self, rest: str) -> Step:
        text = "start" + "x" * int(rest) + "end"
        return Step(text, feedback=(FeedbackItem("tool_output", text),) * 100)

    def _surrogate(self, rest: str) -> Step:
        return Step("a\ud800b")

    def _fickle(self, path: str) -> Step:
        """An end the first time, and no end when it is done again."""
        if Path(path).exists():
            return Step(None)
        Path(path).touch()
        return Step("goes on")

    def _wrong(self, which: str) -> Any:
        item: Any = "no item"
        wrong: dict[str, Any] = {
            "type": "text",
            "observation": Step(7),  # type: ignore[arg-type]
            "reward": Step("a", reward=1.5),
            "nan": Step("a", reward=float("nan")),
            "bool": Step("a", reward=True),
            "feedback": Step("a", feedback=(item,)),
            "kind": Step("a", feedback=(FeedbackItem("", "a"),)),
            "text": Step("a", feedback=(FeedbackItem("tool_output", 7),)),  # type: ignore[arg-type]
            "marked": Step("a", is_marked=1),  # type: ignore[arg-type]
            "verdict": Step(None, reward=1.0, verdict="correct"),
            "unknown": Step(None, reward=1.0, verdict="perhaps"),  # type: ignore[arg-type]
            "judged": Step("a", reward=1.0, verdict="correct"),
            "unjudged": Step(None),
        }
        return wrong[which]


def build(options: Options) -> Scripted:
    if options.fails_to_build:
        raise ValueError("cannot be built")
    return Scripted(options)
