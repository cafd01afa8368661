"""What a program is asked, its answer, and the processes that ask it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, cast

from distil_core.config.models import Component
from distil_core.errors import DistilError, ExpertError
from distil_core.experts.programs import PROGRAMS
from distil_core.experts.programs.base import Program, Text, TurnProgram, texts_of
from distil_core.problems.base import Problem
from distil_core.problems.turns import TurnSoFar
from distil_core.worker_pool import BrokenWorkWatch, WorkerFailure, WorkerPool, described, serve


@dataclass(frozen=True)
class Question:
    """One state of one rollout. turns: those before the one that the state is in; None for a
    program that does not follow turns."""

    problem: Problem
    response_so_far: str
    feedback: Mapping[str, str]
    turns: tuple[TurnSoFar, ...] | None = None

    @cached_property
    def key(self) -> bytes:
        """Sixteen bytes of the hash of all that the program is given."""
        problem = self.problem
        parts = [problem.prompt, problem.reference, problem.metadata, self.response_so_far]
        told = [sorted(self.feedback.items())]
        if self.turns is not None:
            told.append(list(self.turns))
        text = json.dumps([*parts, *told])
        return hashlib.blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Failure:
    """Why there is no answer to a question, which is not the same as nothing to say. reason:
    'raised', an exception or no `Reply`; 'died', the process twice; 'timed_out'."""

    reason: Literal["raised", "died", "timed_out"]
    message: str


Outcome = tuple[Text, ...] | Failure


class ProgramPool(WorkerPool[Question, Outcome]):
    """Processes that ask the program."""

    worker_module = "distil_core.experts._program_questions"

    def __init__(self, program: Component, timeout_s: float, num_workers: int, chunk: int):
        super().__init__(program, timeout_s, num_workers, chunk)
        self._name = f"program {program.name!r}"

    def died(self, how: str) -> Outcome:
        """A state without label."""
        return Failure("died", f"the program's process {how} on this question, twice")

    def overdue(self) -> Outcome:
        """A state without label."""
        return Failure(
            "timed_out", f"no answer within {self._timeout_s:g} s (timeout_s of expert 'program')"
        )

    def failed(self, failure: WorkerFailure, job: Question | None) -> Exception:
        """The program's own error, or that it has a defect."""
        if failure.error is not None:
            return failure.error
        where = "while it was built" if job is None else f"on problem {job.problem.problem_id}"
        return ExpertError(f"{self._name} failed {where}:\n{failure.text}")

    def not_started(self, how: str) -> Exception:
        """That it answered nothing."""
        return ExpertError(f"{self._name}: {how}")


def main(connection_fd: int, lifeline_fd: int) -> None:
    """A worker process, for one parent. It imports neither torch nor transformers."""
    serve(connection_fd, lifeline_fd, _answering)


@contextmanager
def _answering(component: Component) -> Iterator[Callable[[Question], Outcome]]:
    yield partial(ask, PROGRAMS.build(component.name, component.options))


def ask(program: Program, question: Question) -> Outcome:
    """The program's texts, or why there are none. Raises this project's errors, which do not belong
    to one question, except `ExpertError`."""
    try:
        asked = question.problem, question.response_so_far, dict(question.feedback)
        if question.turns is None:
            return texts_of(program(*asked))
        return texts_of(cast(TurnProgram, program)(*asked, turns=question.turns))
    except DistilError as error:
        if isinstance(error, ExpertError):
            return Failure("raised", str(error))
        raise
    except (Exception, SystemExit) as error:
        return Failure("raised", described(error))


class BrokenProgramWatch(BrokenWorkWatch[Failure]):
    """Ends a stage whose program gives no answer at all, or too often none in time."""

    def __init__(self, max_timeouts: int | None):
        super().__init__(False, _no_answer)
        self._max_timeouts = max_timeouts
        self._num_late = 0

    def note_outcome(self, question: Question, outcome: Outcome) -> None:
        """Raises `ExpertError` where every question so far failed, and enough of them did, or where
        too many took too long."""
        failure = outcome if isinstance(outcome, Failure) else None
        is_late = failure is not None and failure.reason == "timed_out"
        self.note(question.key, question.problem.problem_id, failure, is_late)
        self._num_late += is_late
        if self._max_timeouts is not None and self._num_late > self._max_timeouts:
            raise ExpertError(
                f"the program took too long on more than {self._max_timeouts} questions "
                "(max_timeouts of expert 'program'): answers so far are recorded; raise timeout_s, "
                "max_timeouts, or ask at fewer states"
            )


def _no_answer(num_failures: int, first: Failure) -> ExpertError:
    return ExpertError(
        f"the program answered none of {num_failures} questions. The first: {first.message}"
    )
