"""A worker process: builds its own verifier and judges what it is sent, until it is told to end.

A fresh interpreter, not a fork, which would inherit torch's threads and locks; and not
multiprocessing's spawn, which would import the parent's program. It imports neither torch nor
transformers.
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
    """Sent where the verifier cannot be built, or can judge nothing here: the exception and its
    trace as text, since not every exception survives the way between processes."""

    def __init__(self, error: BaseException):
        self.error: DistilError | None = None
        if isinstance(error, DistilError) and type(error).__module__ == DistilError.__module__:
            self.error = error
        self.text = "".join(traceback.format_exception(error))


def main(connection_fd: int, lifeline_fd: int) -> None:
    """Serve one parent: first the settings, then lists of jobs, at last None."""
    _end_with_parent(connection_fd, lifeline_fd)
    # The parent answers an interrupt for all; it may be one that ends the stage in order.
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
        # The parent is gone; nobody waits for anything here.
        return


def _serve(connection: Connection, verifier: Verifier) -> None:
    """An answer for each job, in order."""
    while (jobs := connection.recv()) is not None:
        for job in jobs:
            try:
                answer: object = judge(verifier, job)
            except DistilError as error:
                answer = WorkerFailure(error)
            connection.send(answer)


def _end_with_parent(connection_fd: int, lifeline_fd: int) -> None:
    """Have the kernel's end of the parent, whatever way it came, end this process and all that
    its verifier started: a process beside it waits for the lifeline to close and kills the group.
    A thread could not, while the verifier holds the interpreter."""
    if os.fork():
        os.close(lifeline_fd)
        return
    os.close(connection_fd)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.read(lifeline_fd, 1)
    os.killpg(0, signal.SIGKILL)
