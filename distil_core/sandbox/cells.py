"""A live interpreter that executes cells one after another, for as long as a rollout lasts."""

import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distil_core.sandbox._child import Child, ProcessEnded
from distil_core.sandbox._process_report import ProcessReport, readable
from distil_core.sandbox._zygote import ZygoteDied
from distil_core.sandbox.limits import Isolation
from distil_core.sandbox.results import CandidateException, Ending

if TYPE_CHECKING:
    from distil_core.sandbox.sandbox import Sandbox

_MAX_VALUE_CHARACTERS = 20_100


@dataclass(frozen=True)
class CellResult:
    """What one cell did. value: of its last expression, as text; None where that is none or
    nothing. ending: why the process is no more; None where it lives. exit_code: negative for a
    signal, None where the host ended it or it lives. compiled: False where nothing ran."""

    stdout: bytes
    stderr: bytes
    isolation: Isolation
    value: str | None = None
    exception: CandidateException | None = None
    compiled: bool = True
    ending: Ending | None = None
    exit_code: int | None = None


class CellSession:
    """One confined process whose variables and files are there in the next cell. Limits of time
    and output are of one cell, those of memory and files of the whole session. Between cells the
    process stands still, its threads too, and with the session all of it ends.

    Raises what `Sandbox.child` does: make it within `Sandbox.retried`.
    """

    def __init__(self, sandbox: "Sandbox"):
        self._isolation = sandbox.isolation
        self._ending: Ending | None = None
        with ExitStack() as stack:
            self._child: Child = stack.enter_context(sandbox.child())
            try:
                self._child.ask({"mode": "cells"})
                self._child.receive()
            except ProcessEnded as end:
                # Nothing that a policy wrote has run yet.
                raise ZygoteDied(f"a session ended at its start ({end.ending})") from end
            self._child.pause()
            self._stack = stack.pop_all()

    @property
    def is_alive(self) -> bool:
        """Whether another cell can run."""
        return self._ending is None

    def run(self, source: str) -> CellResult:
        """Execute a cell of a living session. Raises `ZygoteDied` where nothing is known about its
        process."""
        # Unpredictable, so that an answer written before its question breaks the protocol.
        sequence, report = secrets.randbits(48), ProcessReport()
        try:
            self._child.resume()
            self._child.ask({"cell": source, "sequence": sequence})
            report.add(answer := self._child.receive())
            self._child.pause()
            value = answer.get("value")
            is_text = value is None or isinstance(value, str)
            if answer.get("sequence") != sequence or not is_text:
                raise ProcessEnded("violation")
            stdout, stderr = self._child.take_output()
        except ProcessEnded as end:
            return self._ended(end.ending)
        shown = None if value is None else readable(value, _MAX_VALUE_CHARACTERS)
        return CellResult(stdout, stderr, self._isolation, shown, report.exception, report.compiled)

    def close(self) -> None:
        """End the process and all that it left. May be called more than once. Raises
        `ZygoteDied`."""
        if self._ending is None:
            self._ended("exited")

    def _ended(self, ending: Ending) -> CellResult:
        self._ending = ending
        with self._stack:
            self._ending, usage = self._child.finish(ending)
            stdout, stderr = self._child.stdout, self._child.stderr
        return CellResult(
            stdout,
            stderr,
            self._isolation,
            ending=self._ending,
            exit_code=usage.exit if self._ending == "exited" else None,
        )
