"""Compares mathematical expressions with SymPy, in a process that can be killed.

The handler of a Python signal does not run during a long operation on big numbers
(huggingface/Math-Verify, issues 63 and 65), so the limits here are the kernel's. A process that hit
a limit is replaced, and the stage it was in says whose expression was too costly.
"""

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from distil_core.errors import VerifierError
from distil_core.verifiers._line_process import LineProcess, ProcessDiedError
from distil_core.verifiers._math_text import Node

Comparison = Literal[
    "equal", "different", "unreadable_answer", "answer_too_costly", "comparison_too_costly"
]

_SIMPLEST: Node = {"kind": "number", "value": "1", "unit": []}
_WORKER = Path(__file__).with_name("_math_worker.py")
_START_LIMIT_S = 120.0


@dataclass(frozen=True)
class ComparisonSettings:
    """allow_unevaluated: accept `37 * 43 + 11` for 1602. factor: converts the answer, a single
    number or expression, to the reference's unit."""

    allow_unevaluated: bool
    factor: str = "1"


class MathProcess:
    """One mathematics process, started at the first request and again after each end.

    cpu_limit_s: for each stage (reading the reference, reading the answer, comparing). The limit on
    wall time is only a loose backstop, as a busy machine is not the response's fault.
    """

    def __init__(self, cpu_limit_s: float, memory_limit_bytes: int):
        self._cpu_limit_s = cpu_limit_s
        self._memory_limit_bytes = memory_limit_bytes
        self._process = LineProcess(
            (sys.executable, "-s", "-P", str(_WORKER)),
            (str(memory_limit_bytes), str(cpu_limit_s)),
            # SymPy must iterate over sets in the same order in each process.
            {"PYTHONHASHSEED": "0"},
            stderr=subprocess.DEVNULL,
        )

    def compare(self, reference: Node, answer: Node, settings: ComparisonSettings) -> Comparison:
        """Whether `answer` means the same as `reference`.

        Raises `VerifierError` when the reference cannot be read within the limits, or when the
        process cannot run for a reason unrelated to the answer.
        """
        comparison = self._compare(reference, answer, settings)
        # Reading is lazy, so a reference may prove costly only when it is compared.
        if comparison == "comparison_too_costly":
            self.check(reference)
        return comparison

    def check(self, reference: Node) -> None:
        """Raises `VerifierError` when the reference cannot be read and compared within the
        limits."""
        settings = ComparisonSettings(allow_unevaluated=True)
        if self._compare(reference, _SIMPLEST, settings) == "comparison_too_costly":
            raise VerifierError(f"even comparing the reference with 1 takes more than {self}")

    def close(self) -> None:
        """End the process, if one runs."""
        self._process.close()

    @property
    def pid(self) -> int | None:
        """The id of the process that waits for requests now."""
        return self._process.pid

    def __str__(self) -> str:
        memory_mib = self._memory_limit_bytes >> 20
        return f"{self._cpu_limit_s:g} s of CPU time or {memory_mib} MiB of memory"

    def _compare(self, reference: Node, answer: Node, settings: ComparisonSettings) -> Comparison:
        request = {"reference": reference, "answer": answer, **asdict(settings)}
        try:
            return self._attempt(request)
        except ProcessDiedError as death:
            if death.is_cpu_limit:
                return self._blame(death)
        # Repeated in a fresh process, so that no earlier answer influences the verdict.
        try:
            return self._attempt(request)
        except ProcessDiedError as death:
            return self._blame(death)

    def _blame(self, death: ProcessDiedError) -> Comparison:
        # No answer makes the process end in order, either.
        if death.is_from_outside or death.returncode == 0:
            how = "did not answer" if death.returncode is None else "was killed from outside"
            raise VerifierError(
                f"the mathematics process {how} twice while it was at stage '{death.stage}': "
                "is the machine overloaded or out of memory?"
            )
        if death.stage == "reference":
            raise VerifierError(f"reading the reference takes more than {self}")
        return "answer_too_costly" if death.stage == "answer" else "comparison_too_costly"

    def _attempt(self, request: dict[str, Any]) -> Comparison:
        try:
            return self._exchange(request)
        except BaseException:
            # Also on an interrupt: a late answer must not be read as the next one.
            self.close()
            raise

    def _exchange(self, request: dict[str, Any]) -> Comparison:
        self._start()
        stage = "reference"
        self._process.send(request, stage)
        while True:
            message = self._process.receive(stage, 60.0 + 20.0 * self._cpu_limit_s)
            if "stage" in message:
                stage = message["stage"]
                continue
            if message.get("retiring"):
                self.close()
            outcome: Any = message["outcome"]
            if outcome == "unreadable_reference":
                raise VerifierError("the reference is no number or expression")
            return outcome

    def _start(self) -> None:
        try:
            if not self._process.start():
                return
            message = self._process.receive("start", _START_LIMIT_S)
        except OSError as error:
            raise VerifierError(f"the mathematics process cannot be started: {error}") from error
        except ProcessDiedError as death:
            raise VerifierError(
                f"the mathematics process did not start (exit status {death.returncode})"
            ) from None
        if "failed" in message:
            self.close()
            raise VerifierError(
                f"latex2sympy does not work here ({message['failed']}): install the versions of "
                "this project's requirements"
            )
