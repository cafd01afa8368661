"""How a failure with a clear message ends a run: with that message, and without a stack trace.

And which failures are retried, by class: those of the services that a stage uses. A stage whose
settings or data were refused would be refused again.
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
from distil_flows import _internals
from distil_flows.display import current_display

RETRIES = 2
RETRY_DELAYS_S = [5.0, 30.0]
_RETRIED = (EngineError, SandboxError, ExpertUnavailableError, ConnectionError)


def is_transient(error: object) -> bool:
    """Whether the same stage may succeed when it is run again unchanged."""
    return isinstance(error, _RETRIED) and not isinstance(error, EngineRefusedError)


def is_retried(_task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's `retry_condition_fn`; prints on the terminal that the stage is retried."""
    error = _internals.error_of(state)
    if not is_transient(error):
        return False
    display = current_display()
    if display:
        display.line(f"{task_run.name} FAILED, is tried again: {error}")
    return True


def failed_state(error: DistilError) -> State[Any]:
    """The state that a flow or task returns for the error; the message is also in the run's log."""
    get_run_logger().error("%s", error)
    return Failed(message=str(error), data=error)


def result_of(state: State[Any]) -> Any:
    """The result of the flow or task. Raises the error that it failed with."""
    return state.result(raise_on_failure=True)


def _without_trace(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], DistilError):
        record.exc_info = None
    return True


# Prefect raises a flow's error once more, and logs it with a stack trace.
logging.getLogger("prefect.flow_runs").addFilter(_without_trace)
