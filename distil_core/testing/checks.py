"""Checks of a component: one thing each that the contract asks for, and what to do where it fails.

A check is called; it returns where all is well, raises `CheckFailedError` where it is not, and
`unittest.SkipTest` where it cannot tell (pytest knows both).
"""

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from unittest import SkipTest

from distil_core.errors import DistilError

Outcome = Literal["passed", "failed", "not run"]


class CheckFailedError(AssertionError):
    """The component does not keep its contract; the message says what was found."""


def require(holds: bool, found: str) -> None:
    """Raise `CheckFailedError` unless it holds."""
    if not holds:
        raise CheckFailedError(found)


@dataclass(frozen=True)
class Check:
    """name: what holds where it passes. remedy: what to do where it does not. is_needed: whether
    no other check can be run where this one fails."""

    name: str
    remedy: str
    body: Callable[[], None]
    is_needed: bool = False

    def __call__(self) -> None:
        """Run it."""
        self.body()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class CheckResult:
    """detail: what was found, empty where it passed."""

    check: Check
    outcome: Outcome
    detail: str = ""

    def lines(self) -> list[str]:
        """For people: the check, what was found and what to do about it."""
        shown = [f"{self.outcome:<8} {self.check.name}"]
        if self.detail:
            shown += [f"{'':<9}{line}" for line in self.detail.splitlines()]
        if self.outcome == "failed":
            shown.append(f"{'':<9}To do: {self.check.remedy}")
        return shown


def run_checks(checks: Iterable[Check]) -> list[CheckResult]:
    """All results, in order; none after one that is needed and failed."""
    results = []
    for check in checks:
        results.append(_run(check))
        if check.is_needed and results[-1].outcome == "failed":
            break
    return results


def as_table(title: str, results: Sequence[CheckResult]) -> str:
    """The results for people, and how many there are of each outcome."""
    outcomes = [result.outcome for result in results]
    counts = ", ".join(
        f"{outcomes.count(outcome)} {outcome}"
        for outcome in ("passed", "failed", "not run")
        if outcome in outcomes
    )
    return "\n".join([title, *(line for result in results for line in result.lines()), counts])


def require_all_passed(title: str, checks: Iterable[Check]) -> None:
    """Raise `CheckFailedError`, with the whole table, where any of them fails."""
    results = run_checks(checks)
    require(all(result.outcome != "failed" for result in results), as_table(title, results))


def _run(check: Check) -> CheckResult:
    try:
        check()
    except SkipTest as reason:
        return CheckResult(check, "not run", str(reason))
    except (CheckFailedError, DistilError) as error:
        return CheckResult(check, "failed", str(error))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}, line {frame.lineno}"
        return CheckResult(check, "failed", f"{type(error).__name__}: {error} ({place})")
    return CheckResult(check, "passed")
