"""A worker process: builds its own verifier and judges what it is sent, until it is told to stop.

It imports neither torch nor transformers.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

from distil_core.config.models import ConsultParams
from distil_core.verifiers import build_verifier
from distil_core.verifiers.pool.jobs import Outcome, VerificationJob
from distil_core.verifiers.pool.judging import judge
from distil_core.worker_pool import serve


def main(connection_fd: int, lifeline_fd: int) -> None:
    """Serve one parent."""
    serve(connection_fd, lifeline_fd, _judge)


@contextmanager
def _judge(params: ConsultParams) -> Iterator[Callable[[VerificationJob], Outcome]]:
    with closing(build_verifier(params)) as verifier:
        yield partial(judge, verifier)
