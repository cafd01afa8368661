"""A stage ends for want of verdicts by the order of its jobs, whatever order they finish in."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers.base import Verification
from distil_core.verifiers.pool.jobs import NoVerdictInTimeError, Outcome, VerificationJob
from distil_core.verifiers.pool.journal import Journal
from distil_core.verifiers.pool.judging import BrokenVerifierWatch

VERDICT = Verification(verdict="wrong", reward=0.0, feedback=())
PROBLEMS = [Problem(f"prompt {n}", "right") for n in range(8)]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    return Journal(Path(tmp_path_factory.mktemp("journal")) / "journal.sqlite", "settings")


def text_of_the_end(
    journal: Journal, outcomes: Sequence[Outcome], arrivals: Sequence[int]
) -> str | None:
    """What the watch raises where these outcomes arrive in this order; None where it does not."""
    watch = BrokenVerifierWatch(journal)
    jobs = [VerificationJob(PROBLEMS[n % 8], f"response {n}") for n in range(len(outcomes))]
    for job in jobs:
        watch.expect(job.key)
    try:
        for number in arrivals:
            watch.note_outcome(jobs[number], outcomes[number])
        watch.finish()
    except VerifierError as error:
        return str(error)
    return None


@given(
    data=st.data(), num_failures=st.sampled_from([0, 1, 31, 32, 40]), num_verdicts=st.integers(0, 8)
)
def test_the_order_in_which_workers_finish_changes_nothing(
    journal: Journal, data: st.DataObject, num_failures: int, num_verdicts: int
) -> None:
    failures = [VerifierError(f"failure {number}") for number in range(num_failures)]
    outcomes: list[Outcome] = [*failures, *[VERDICT] * num_verdicts]
    in_order = range(len(outcomes))
    expected = text_of_the_end(journal, outcomes, in_order)
    assert text_of_the_end(journal, outcomes, data.draw(st.permutations(in_order))) == expected
    is_broken = num_failures >= 32 or (num_failures > 0 and num_verdicts == 0)
    assert (expected is not None) == is_broken


def test_timeouts_count_as_they_come(journal: Journal) -> None:
    late = [NoVerdictInTimeError(f"late {number}") for number in range(4)]
    said = text_of_the_end(journal, [VERDICT, *late], arrivals=[1, 2, 3, 4, 0])
    assert said is not None
    assert "no verdict on any of 4" in said
    assert text_of_the_end(journal, [VERDICT, *late], arrivals=[0, 1, 2, 3, 4]) is None
