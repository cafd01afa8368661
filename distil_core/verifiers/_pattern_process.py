"""Matches regular expressions in a process that can be killed: a pattern may take for ever on a
text that nobody foresaw. A process that hit a limit is replaced."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distil_core.errors import VerifierError
from distil_core.verifiers._line_process import LineProcess, ProcessDiedError

Anchoring = Literal["whole", "start", "anywhere"]

_WORKER = Path(__file__).with_name("_pattern_worker.py")
_MEMORY_LIMIT_BYTES = 512 << 20


class PatternError(Exception):
    """The pattern is no regular expression. The message says what is wrong with it."""


@dataclass(frozen=True)
class Match:
    """text: all that was matched. answer: what the group `answer` holds; None where the pattern has
    none, or it took no part."""

    text: str
    answer: str | None


class PatternProcess:
    """One process, started at the first request and again after each end.

    cpu_limit_s: for each match. The limit on wall time is only a loose backstop, as a busy machine
    is not the response's fault.
    """

    def __init__(self, cpu_limit_s: float):
        self._cpu_limit_s = cpu_limit_s
        self._process = LineProcess(
            (sys.executable, "-I", "-S", str(_WORKER)),
            (str(_MEMORY_LIMIT_BYTES), str(cpu_limit_s)),
            {},
            stderr=subprocess.DEVNULL,
        )

    def match(
        self, pattern: str, flags: int, anchoring: Anchoring, text: str
    ) -> Match | Literal["too_costly"] | None:
        """The match; None where there is none. Raises `PatternError`, and `VerifierError` where the
        process fails for a reason unrelated to pattern and text, or the pattern alone exceeds the
        limits."""
        request = {"pattern": pattern, "flags": flags, "anchoring": anchoring, "text": text}
        for last in (False, True):
            try:
                return self._attempt(request)
            except ProcessDiedError as death:
                # Repeated in a fresh process, so that no earlier text influences the verdict.
                if not death.is_cpu_limit and not last:
                    continue
                if death.is_from_outside or death.returncode == 0:
                    raise VerifierError(
                        "the process that matches regular expressions was ended twice, by nothing "
                        "that it did: is the machine overloaded or out of memory?"
                    ) from None
                if death.stage == "compile":
                    raise PatternError(
                        f"it takes more than {self._cpu_limit_s:g} s, or too much memory, to read"
                    ) from None
                return "too_costly"
        raise AssertionError("the second attempt returns or raises")

    def close(self) -> None:
        """End the process, if one runs."""
        self._process.close()

    def _attempt(self, request: dict[str, object]) -> Match | None:
        wall_limit_s = 60.0 + 20.0 * self._cpu_limit_s
        stage = "compile"
        try:
            self._process.start()
            self._process.send(request, stage)
            reply = self._process.receive(stage, wall_limit_s)
            if "stage" in reply:
                stage = "match"
                reply = self._process.receive(stage, wall_limit_s)
        except OSError as error:
            self.close()
            raise VerifierError(
                f"the process that matches regular expressions cannot be started: {error}"
            ) from error
        except BaseException:
            # Also on an interrupt: a late answer must not be read as the next one.
            self.close()
            raise
        if "unreadable" in reply:
            raise PatternError(reply["unreadable"])
        matched = reply["matched"]
        return None if matched is None else Match(matched, reply["answer"])
