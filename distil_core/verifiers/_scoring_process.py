"""Scores answers by reasoning-gym's rules, in a process that can be killed.

A rule may turn the answer `1e99999999` into a fraction, which no Python signal handler can stop. A
process that hit a limit is replaced.
"""

import os
import sys
from typing import Any, Literal

from distil_core.errors import VerifierError
from distil_core.verifiers._line_process import LineProcess, ProcessDiedError

Score = float | Literal["unreadable", "too_costly"]

_COMMAND = (sys.executable, "-m", "distil_core.verifiers._scoring_worker")
_START_LIMIT_S = 180.0


class ScoringProcess:
    """One process, started at the first request and again after each end.

    cpu_limit_s: for each answer. The limit on wall time is only a loose backstop, as a busy machine
    is not the answer's fault. In a forked process an inherited object starts a process of its own.
    """

    def __init__(self, cpu_limit_s: float, memory_limit_bytes: int):
        self._cpu_limit_s = cpu_limit_s
        self._process = LineProcess(
            _COMMAND,
            (str(memory_limit_bytes), str(cpu_limit_s)),
            {
                "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
                "PYTHONHASHSEED": "0",
                "OMP_NUM_THREADS": "1",
            },
        )

    def score(self, name: str, config: str, entry: dict[str, Any], answer: str) -> Score:
        """The score that the generator's rule gives an answer. Raises `VerifierError` where the
        rule cannot score the problem's own answer either, or where the process fails for another
        reason."""
        request = {"name": name, "config": config, "entry": entry, "answer": answer}
        outcome = self._outcome(request)
        if isinstance(outcome, float):
            return outcome
        own = self._outcome({**request, "answer": str(entry.get("answer"))})
        if not isinstance(own, float):
            raise VerifierError(
                f"the rule of the reasoning-gym generator {name!r} cannot score the problem's own "
                f"answer ({own}): was the problem made by another version of the library?"
            )
        return outcome

    def close(self) -> None:
        """End the process, if one runs."""
        self._process.close()

    def _outcome(self, request: dict[str, Any]) -> Score:
        try:
            return self._attempt(request)
        except ProcessDiedError as death:
            if death.is_cpu_limit:
                return "too_costly"
        # Repeated in a fresh process, so that no earlier answer influences the verdict.
        try:
            return self._attempt(request)
        except ProcessDiedError as death:
            if death.is_from_outside:
                raise VerifierError(
                    "the process that scores answers was ended twice, by nothing that it did: is "
                    "the machine overloaded or out of memory?"
                ) from None
            if death.stage == "start":
                raise VerifierError(
                    f"the process that scores answers cannot start (status {death.returncode}): "
                    "see what it printed"
                ) from None
            return "too_costly"

    def _attempt(self, request: dict[str, Any]) -> Score:
        try:
            self._process.start()
            self._process.send(request, "start")
            self._process.receive("start", _START_LIMIT_S)
            reply = self._process.receive("score", 60.0 + 20.0 * self._cpu_limit_s)
        except OSError as error:
            self.close()
            raise VerifierError(
                f"the process that scores answers cannot be started: {error}"
            ) from error
        except BaseException:
            # Also on an interrupt: a late answer must not be read as the next one.
            self.close()
            raise
        return "unreadable" if "raised" in reply else float(reply["score"])
