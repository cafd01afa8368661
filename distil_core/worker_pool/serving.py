"""A worker process: builds what it works with and answers jobs, until it is told to stop.

It is a fresh interpreter: a fork would inherit torch's threads and locks, and multiprocessing's
spawn would import the parent's program.
"""

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

from distil_core.errors import DistilError

Answer = Callable[[Any], object]

_MAX_MESSAGE_CHARACTERS = 500


class WorkerFailure:
    """Sent where a worker cannot be built, or cannot answer anything here: the exception, and its
    trace as text, since not every exception can be pickled."""

    def __init__(self, error: BaseException):
        self.error: DistilError | None = None
        if isinstance(error, DistilError) and type(error).__module__ == DistilError.__module__:
            self.error = error
        self.text = "".join(traceback.format_exception(error))


def serve(
    connection_fd: int,
    lifeline_fd: int,
    build: Callable[[Any], AbstractContextManager[Answer]],
) -> None:
    """Serve one parent, which sends the settings, then lists of jobs, and finally None.

    build: from the settings, what answers one job; it is left when the parent is done. A
    `DistilError` of it is not of one job: the parent raises it.
    """
    _end_with_parent(connection_fd, lifeline_fd)
    # The parent handles an interrupt for all workers, and may then end the stage in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(connection_fd)
    try:
        settings = connection.recv()
        try:
            worker = build(settings)
            answer = worker.__enter__()
        except Exception as error:
            connection.send(WorkerFailure(error))
            return
        try:
            connection.send(None)
            for job in _jobs(connection):
                connection.send(_answered(answer, job))
        finally:
            worker.__exit__(None, None, None)
    except (EOFError, ConnectionError):
        # The parent is gone, so nobody waits for an answer.
        return


def described(error: BaseException) -> str:
    """Class, message and place of what a user's code raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    try:
        message = str(error)
    except Exception as second:
        message = f"its message cannot be had: {type(second).__name__}"
    return f"{type(error).__name__}: {message[:_MAX_MESSAGE_CHARACTERS]}{place}"


def _jobs(connection: Connection) -> Iterator[Any]:
    while (jobs := connection.recv()) is not None:
        yield from jobs


def _answered(answer: Answer, job: Any) -> object:
    try:
        return answer(job)
    except DistilError as error:
        return WorkerFailure(error)


def _end_with_parent(connection_fd: int, lifeline_fd: int) -> None:
    """End this process and everything it started when the parent ends in any way: a process beside
    it waits until the kernel closes the lifeline, and then kills the group. A thread could not do
    that while a job holds the interpreter."""
    if os.fork():
        os.close(lifeline_fd)
        return
    os.close(connection_fd)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.read(lifeline_fd, 1)
    os.killpg(0, signal.SIGKILL)
