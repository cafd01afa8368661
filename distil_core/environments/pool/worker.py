"""A worker process: keeps environments and answers actions, until it is told to stop.

It imports neither torch nor transformers.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from distil_core.config.models import EnvironmentParams
from distil_core.environments import ENVIRONMENTS, build_environment
from distil_core.environments.pool.jobs import LaneJob, Replayed, StepOutcome
from distil_core.environments.pool.live import LiveEnvironments
from distil_core.worker_pool import serve


def main(connection_fd: int, lifeline_fd: int) -> None:
    """Serve one parent."""
    serve(connection_fd, lifeline_fd, _answers)


@contextmanager
def _answers(
    params: EnvironmentParams,
) -> Iterator[Callable[[LaneJob], StepOutcome | Replayed]]:
    judges = ENVIRONMENTS.options(params.name, params.options).judges
    with closing(LiveEnvironments(lambda: build_environment(params), judges)) as live:
        yield lambda lane_job: live.answer(lane_job.job)
