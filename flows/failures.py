"""How a failure that has a clear message ends a run: with that message, and no stack trace."""

import logging
from typing import Any

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Failed

from distil_core.errors import DistilError


def failed(error: DistilError) -> State[Any]:
    """The state a flow or task returns for it; the message also stands in the run's log."""
    get_run_logger().error("%s", error)
    return Failed(message=str(error), data=error)


def value_of(state: State[Any]) -> Any:
    """What the flow or task returned; what it failed with is raised."""
    return state.result(raise_on_failure=True)


def _without_trace(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], DistilError):
        record.exc_info = None
    return True


# Prefect raises what a flow failed with once more, and logs where it did.
logging.getLogger("prefect.flow_runs").addFilter(_without_trace)
