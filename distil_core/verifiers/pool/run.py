"""Verify a stream of jobs, in this process or in workers, with the same outcomes."""

from collections.abc import Iterable
from contextlib import closing

from distil_core.config.models import ConsultParams
from distil_core.progress import ProgressCallback
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verifier
from distil_core.verifiers.pool.jobs import VerificationJob
from distil_core.verifiers.pool.journal import Journal
from distil_core.verifiers.pool.judging import BrokenVerifierWatch, RunningReward, judge
from distil_core.verifiers.pool.processes import Pool

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
    """Record an outcome for each job in the journal. Equal jobs are verified once, and those that
    the journal has already are skipped. num_jobs: only for the progress.

    With one worker, a bounded verifier runs in this process, and so does any other without
    `verify_timeout_s`, where nothing can stop it if it hangs or dies. Otherwise num_workers
    processes run them. Memory holds a few chunks for each process, however many jobs there are.

    A verifier that fails on a response gives an outcome that says so. Raises what `build_verifier`
    raises, and `VerifierError` where it gave no verdict on any response (`BrokenVerifierWatch`).
    """
    watch, reward = BrokenVerifierWatch(journal), RunningReward(progress, num_jobs)
    if num_workers == 1:
        with closing(build_verifier(params)) as verifier:
            if verifier.is_bounded or params.verify_timeout_s is None:
                _in_this_process(verifier, jobs, journal, watch, reward)
                watch.finish()
                return
    _in_workers(jobs, params, num_workers, journal, watch, reward, chunk_size)
    watch.finish()


def _in_this_process(
    verifier: Verifier,
    jobs: Iterable[VerificationJob],
    journal: Journal,
    watch: BrokenVerifierWatch,
    reward: RunningReward,
) -> None:
    for done, job in enumerate(jobs, start=1):
        if job.key not in journal:
            watch.expect(job.key)
            outcome = judge(verifier, job)
            journal.record(job.key, outcome)
            watch.note_outcome(job, outcome)
            reward.note(outcome)
        reward.report(done)


def _in_workers(
    jobs: Iterable[VerificationJob],
    params: ConsultParams,
    num_workers: int,
    journal: Journal,
    watch: BrokenVerifierWatch,
    reward: RunningReward,
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
                    watch.expect(job.key)
                    pool.submit(job)
            reward.report(taken - len(under_way))
            if not under_way:
                break
            for job, outcome in pool.collect():
                journal.record(job.key, outcome)
                under_way.discard(job.key)
                watch.note_outcome(job, outcome)
                reward.note(outcome)
            journal.commit()
        pool.close()
    finally:
        pool.kill()
