"""The outcome of one response whatever the verifier does with it, and when the verifier is broken.

A verifier that fails on a response it did not foresee gives a row with an error: neither a wrong
answer nor the end of the stage. One that fails on all responses is broken, which a table full of
errors would only hide.
"""

import math
from typing import get_args

from distil_core.errors import DistilError, VerifierError
from distil_core.progress import ProgressCallback, report_figures
from distil_core.verifiers.base import FeedbackItem, Verdict, Verification, Verifier
from distil_core.verifiers.pool.jobs import NoVerdictInTimeError, Outcome, VerificationJob
from distil_core.verifiers.pool.journal import Journal
from distil_core.worker_pool import BrokenWorkWatch, described

_VERDICTS = get_args(Verdict)


def judge(verifier: Verifier, job: VerificationJob) -> Outcome:
    """The verdict, or a `VerifierError` where the verifier reached none, for any reason. Raises
    this project's other errors, which do not belong to one response (there is no sandbox)."""
    try:
        outcome = verifier.verify(job.problem, job.response)
        if (reason := _defect_of(outcome)) is not None:
            return VerifierError(f"the verifier has a defect: it gave {reason}")
    except VerifierError as error:
        # A plain `VerifierError`, since not every subclass can be pickled.
        return VerifierError(str(error))
    except DistilError:
        raise
    except (Exception, SystemExit) as error:
        return VerifierError(
            f"the verifier failed on this response, which is a defect of it: {described(error)}"
        )
    return outcome


def _defect_of(outcome: object) -> str | None:
    """What is wrong with a verdict that could not be stored or counted; None where it is sound."""
    if not isinstance(outcome, Verification):
        return f"{type(outcome).__name__} in place of a Verification"
    if outcome.verdict not in _VERDICTS:
        return f"the verdict {outcome.verdict!r}, expected one of {', '.join(_VERDICTS)}"
    reward = outcome.reward
    if not isinstance(reward, int | float) or not math.isfinite(reward) or not 0 <= reward <= 1:
        return f"the reward {reward!r}, expected a number from 0 to 1"
    if not all(
        isinstance(item, FeedbackItem) and type(item.text) is str for item in outcome.feedback
    ):
        return "feedback that is no text"
    return None


class RunningReward:
    """Reports the mean reward of the distinct responses that were verified so far."""

    def __init__(self, progress: ProgressCallback, num_jobs: int):
        self._progress, self._num_jobs = progress, num_jobs
        self._sum, self._num_verdicts = 0.0, 0

    def note(self, outcome: Outcome) -> None:
        """Count it, where it is a verdict."""
        if isinstance(outcome, Verification):
            self._sum += outcome.reward
            self._num_verdicts += 1

    def report(self, done: int) -> None:
        """Progress, and the reward where there is one yet."""
        if self._num_verdicts:
            report_figures(self._progress, done, {"reward": self._sum / self._num_verdicts})
        self._progress(done, self._num_jobs)


class BrokenVerifierWatch(BrokenWorkWatch[VerifierError]):
    """Ends a stage whose verifier gives no verdict at all."""

    def __init__(self, journal: Journal):
        super().__init__(journal.has_verdict, _no_verdict)

    def note_outcome(self, job: VerificationJob, outcome: Outcome) -> None:
        """Raises `VerifierError` where every job so far failed, and enough of them did."""
        failure = None if isinstance(outcome, Verification) else outcome
        is_timeout = isinstance(failure, NoVerdictInTimeError)
        self.note(job.key, job.problem.problem_id, failure, is_timeout)


def _no_verdict(num_failures: int, first: VerifierError) -> VerifierError:
    error = VerifierError(
        f"the verifier gave no verdict on any of {num_failures} responses, so this stage ends "
        f"(nothing is lost, and it goes on from here). The first: {first}"
    )
    error.__cause__ = first
    return error
