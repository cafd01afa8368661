"""Whether the work that processes are given gives anything at all."""

from collections.abc import Callable
from typing import Generic, TypeVar

Failure = TypeVar("Failure")

MAX_FAILURES = 32
MAX_TIMEOUTS = 4
"""Failures after which work that gave no result yet counts as broken."""
_MIN_PROBLEMS = 4


class BrokenWorkWatch(Generic[Failure]):
    """Ends a stage whose verifier or program gives no result at all.

    Failures count in the order of the jobs, so that it does not depend on the workers' speed
    whether a stage ends. Timeouts count as they come: each costs a whole time limit.

    has_result: whether there is one from before. error: what is raised, from the number of
    failures and the first of them.
    """

    def __init__(self, has_result: bool, error: Callable[[int, Failure], Exception]):
        self._is_sound = self._has_result = has_result
        self._error = error
        self._in_order: dict[bytes, tuple[str, Failure | None] | None] = {}
        self._num_failures = self._num_timeouts = 0
        self._problems: set[str] = set()
        self._first: Failure | None = None

    def expect(self, key: bytes) -> None:
        """Note that the job of this key comes next; its outcome may come later."""
        if not self._is_sound:
            self._in_order[key] = None

    def note(
        self, key: bytes, problem_id: str, failure: Failure | None, is_timeout: bool = False
    ) -> None:
        """Take the outcome of an expected job: a failure, or None for a result. Raises the error
        where every job so far failed, and enough of them did."""
        if self._is_sound:
            return
        self._in_order[key] = problem_id, failure
        self._has_result |= failure is None
        if failure is not None and is_timeout:
            self._num_timeouts += 1
            if self._num_timeouts >= MAX_TIMEOUTS and not self._has_result:
                raise self._error(self._num_timeouts, self._first or failure)
        while self._in_order:
            first_key, found = next(iter(self._in_order.items()))
            if found is None:
                break
            del self._in_order[first_key]
            self._count(*found)

    def finish(self) -> None:
        """Raises the error where every job failed."""
        if self._first is not None and not self._has_result:
            raise self._error(self._num_failures, self._first)

    def _count(self, problem_id: str, failure: Failure | None) -> None:
        if failure is None:
            self._is_sound = True
            self._in_order.clear()
            return
        self._first = self._first or failure
        self._num_failures += 1
        # All jobs of one problem may share a cause.
        self._problems.add(problem_id)
        if self._num_failures >= MAX_FAILURES and len(self._problems) >= _MIN_PROBLEMS:
            raise self._error(self._num_failures, self._first)
