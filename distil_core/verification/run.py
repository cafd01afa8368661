"""Verify a stream of jobs, in this process or in workers, with the same outcomes."""

from collections.abc import Iterable
from contextlib import closing

from distil_core.config.models import ConsultParams
from distil_core.errors import VerifierError
from distil_core.progress import ProgressCallback
from distil_core.tools import build_verifier
from distil_core.tools.base import Verifier
from distil_core.verification.jobs import Outcome, VerificationJob
from distil_core.verification.journal import Journal
from distil_core.verification.pool import Pool

CHUNK_SIZE = 32
"""Jobs sent to a worker at once. Answers come back one by one, so nothing finished is lost."""
_CHUNKS_AHEAD = 4


def verify_all(
    jobs: Iterable[VerificationJob],
    num_jobs: int,
    params: ConsultParams,
    num_workers: int,
    journal: Journal,
    progress: ProgressCallback,
    chunk_size: int = CHUNK_SIZE,
) -> None:
    """Have an outcome of each job in the journal. Equal jobs are verified once, and none that the
    journal holds from before. num_jobs: for the progress only.

    With one worker and no `verify_timeout_s`, verifiers run in this process, where nothing can
    stop one that hangs or dies. Otherwise they run in num_workers processes. Memory holds a few
    chunks for each, however many jobs there are.

    Raises what `build_verifier` raises, and an error where a verifier has a defect.
    """
    if num_workers == 1 and params.verify_timeout_s is None:
        _in_this_process(jobs, num_jobs, params, journal, progress)
    else:
        _in_workers(jobs, num_jobs, params, num_workers, journal, progress, chunk_size)


def _in_this_process(
    jobs: Iterable[VerificationJob],
    num_jobs: int,
    params: ConsultParams,
    journal: Journal,
    progress: ProgressCallback,
) -> None:
    with closing(build_verifier(params)) as verifier:
        for done, job in enumerate(jobs, start=1):
            if job.key not in journal:
                journal.keep(job.key, _outcome(verifier, job))
            progress(done, num_jobs)


def _outcome(verifier: Verifier, job: VerificationJob) -> Outcome:
    try:
        return verifier.verify(job.problem, job.response)
    except VerifierError as error:
        return error


def _in_workers(
    jobs: Iterable[VerificationJob],
    num_jobs: int,
    params: ConsultParams,
    num_workers: int,
    journal: Journal,
    progress: ProgressCallback,
    chunk_size: int,
) -> None:
    iterator = iter(jobs)
    under_way: set[bytes] = set()
    taken = 0
    pool = Pool(params, num_workers, chunk_size)
    try:
        while True:
            while len(under_way) < num_workers * chunk_size * _CHUNKS_AHEAD:
                job = next(iterator, None)
                if job is None:
                    break
                taken += 1
                if job.key not in under_way and job.key not in journal:
                    under_way.add(job.key)
                    pool.submit(job)
            progress(taken - len(under_way), num_jobs)
            if not under_way:
                break
            for job, outcome in pool.collect():
                journal.keep(job.key, outcome)
                under_way.discard(job.key)
            journal.commit()
        pool.close()
    finally:
        pool.kill()
