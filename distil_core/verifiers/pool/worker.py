"""A worker process: builds its own verifier and judges what it is sent, until it is told to stop.

It is a fresh interpreter: a fork would inherit torch's threads and locks, and multiprocessing's
spawn would import the parent's program. It imports neither torch nor transformers.
"""

import os
import signal
import traceback
from multiprocessing.connection import Connection

from distil_core.config.models import ConsultParams
from distil_core.errors import DistilError
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verifier
from distil_core.verifiers.pool.judging import judge


class WorkerFailure:
    """Sent where the verifier cannot be built, or cannot judge anything here: the exception, and
    its trace as text, since not every exception can be pickled."""

    def __init__(self, error: BaseException):
        self.error: DistilError | None = None
        if isinstance(error, DistilError) and type(error).__module__ == DistilError.__module__:
            self.error = error
        self.text = "".join(traceback.format_exception(error))


def main(connection_fd: int, lifeline_fd: int) -> None:
    """Serve one parent, which sends the settings, then lists of jobs, and finally None."""
    _end_with_parent(connection_fd, lifeline_fd)
    # The parent handles an interrupt for all workers, and may then end the stage in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(connection_fd)
    try:
        params: ConsultParams = connection.recv()
        try:
            verifier = build_verifier(params)
        except Exception as error:
            connection.send(WorkerFailure(error))
            return
        try:
            connection.send(None)
            _serve(connection, verifier)
        finally:
            verifier.close()
    except (EOFError, ConnectionError):
        # The parent is gone, so nobody waits for an answer.
        return


def _serve(connection: Connection, verifier: Verifier) -> None:
    """Answer each job, in order."""
    while (jobs := connection.recv()) is not None:
        for job in jobs:
            try:
                answer: object = judge(verifier, job)
            except DistilError as error:
                answer = WorkerFailure(error)
            connection.send(answer)


def _end_with_parent(connection_fd: int, lifeline_fd: int) -> None:
    """End this process and everything its verifier started when the parent ends in any way: a
    process beside it waits until the kernel closes the lifeline, and then kills the group. A thread
    could not do that while the verifier holds the interpreter."""
    if os.fork():
        os.close(lifeline_fd)
        return
    os.close(connection_fd)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.read(lifeline_fd, 1)
    os.killpg(0, signal.SIGKILL)
