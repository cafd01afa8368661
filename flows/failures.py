"""How a failure that has a clear message ends a run: with that message, and no stack trace.

And which failures are tried again: those of what a stage works with, by their class. A stage that
was refused its settings or its data would be refused again.
"""

import logging
from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.states import Failed

from distil_core.errors import (
    DistilError,
    EngineError,
    EngineRefusedError,
    ExpertUnavailableError,
    SandboxError,
)
from flows import _internals
from flows.display import current_display

RETRIES = 2
RETRY_DELAYS_S = [5.0, 30.0]
_RETRIED = (EngineError, SandboxError, ExpertUnavailableError, ConnectionError)


def is_transient(error: object) -> bool:
    """Whether the same stage may succeed when it is run again as it is."""
    return isinstance(error, _RETRIED) and not isinstance(error, EngineRefusedError)


def is_retried(_task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's `retry_condition_fn`; says on the terminal that the stage is tried again."""
    error = _internals.error_of(state)
    if not is_transient(error):
        return False
    display = current_display()
    if display:
        display.line(f"{task_run.name} FAILED, is tried again: {error}")
    return True


def failed_state(error: DistilError) -> State[Any]:
    """The state a flow or task returns for it; the message also stands in the run's log."""
    get_run_logger().error("%s", error)
    return Failed(message=str(error), data=error)


def result_of(state: State[Any]) -> Any:
    """What the flow or task returned; what it failed with is raised."""
    return state.result(raise_on_failure=True)


def _without_trace(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], DistilError):
        record.exc_info = None
    return True


# Prefect raises what a flow failed with once more, and logs where it did.
logging.getLogger("prefect.flow_runs").addFilter(_without_trace)
