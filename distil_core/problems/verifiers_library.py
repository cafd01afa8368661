"""The verifiers library as this project uses it: its tasksets and environments, pinned to versions.

Its tasks become problems, and a problem becomes the task again that it was.
"""

import importlib.metadata
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, ValidationError

from distil_core.errors import ConfigError, DataError
from distil_core.problems.base import Problem
from distil_core.problems.messages import ROLES, Message, transcript, with_messages
from distil_core.registry import ComponentOptions

if TYPE_CHECKING:
    from verifiers.v1 import Env, Task, Taskset

LIBRARY = "verifiers"
TASK = "verifiers_task"
"""Of a problem's metadata: what makes the task again."""


class TasksetOptions(ComponentOptions):
    """Which taskset, with what settings and of which version."""

    taskset: str
    """The taskset's id, as verifiers finds it: an installed package, or a module that can be
    imported, which exports the taskset and, where it has one, its environment."""
    versions: dict[str, str] = Field(min_length=1)
    """Versions that must be installed, by the name of the distribution: of `verifiers`, and of the
    package that the taskset is in."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """The taskset's own settings, such as its `split` or what `task` is to have."""


class PromptMessage(NamedTuple):
    """One message that the policy reads before its first turn."""

    role: str
    content: str


def require_versions(options: TasksetOptions) -> None:
    """Raise `ConfigError` unless exactly these versions are installed, and each that decides what
    the taskset gives is named."""
    module = options.taskset.rsplit("/", 1)[-1].split("@", 1)[0].replace("-", "_").lower()
    owners = importlib.metadata.packages_distributions().get(module, ())
    for name in dict.fromkeys([LIBRARY, *owners]):
        if name not in options.versions:
            raise ConfigError(
                f"options.versions names {', '.join(options.versions)}; expected {name} as well, "
                "which decides what the tasks are"
            )
    for name, expected in options.versions.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            how = "`pip install 'distil[verifiers]'`" if name == LIBRARY else "install it"
            raise ConfigError(f"the package {name} is not installed: {how}") from error
        if found != expected:
            raise ConfigError(
                f"{name} {found} is installed, the settings say {expected}, and versions differ in "
                "their tasks and rewards: install that one, or change options.versions"
            )


def load_environment(
    options: TasksetOptions,
    environment: str = "",
    environment_arguments: Mapping[str, Any] | None = None,
) -> "Env[Any]":
    """The library's environment with the taskset in it. Raises `ConfigError` where the library, the
    taskset or the environment is missing, or does not take its settings."""
    require_versions(options)
    try:
        import verifiers.v1 as vf
    except ImportError as error:
        raise ConfigError(
            f"the library verifiers cannot be imported ({error}), or is one before 0.4: "
            "`pip install 'distil[verifiers]'`"
        ) from error
    values = {
        **(environment_arguments or {}),
        "id": environment,
        "taskset": {**options.arguments, "id": options.taskset},
    }
    try:
        return vf.load_environment(vf.resolve_env_config(values))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        # A ValidationError of pydantic is a ValueError.
        raise ConfigError(
            f"verifiers does not load the taskset {options.taskset!r} with the settings "
            f"{options.arguments}: {type(error).__name__}: {error}"
        ) from error


def messages_read_first(task: "Task[Any, Any, Any]") -> tuple[PromptMessage, ...]:
    """What the policy reads before its first turn. Raises `ValueError` for a task that has no
    prompt, or one that is not text alone."""
    data = task.data
    if data.prompt is None:
        raise ValueError("it has no prompt: its environment would speak first")
    given = (
        [PromptMessage("user", data.prompt)]
        if isinstance(data.prompt, str)
        else [PromptMessage(message.role, text_of(message)) for message in data.prompt]
    )
    if data.system_prompt is not None:
        given.insert(0, PromptMessage("system", data.system_prompt))
    return tuple(given)


def text_of(message: Any) -> str:
    """The text of one of the library's messages. Raises `ValueError` where it is more than text."""
    if message.role not in ROLES:
        raise ValueError(
            f"a message of the role {message.role!r}, expected system, user or assistant"
        )
    if getattr(message, "tool_calls", None):
        raise ValueError("a message with tool calls")
    content = message.content
    if isinstance(content, str):
        return content
    if content is None or any(part.type != "text" for part in content):
        raise ValueError("a message that is not text alone")
    return "\n".join(part.text for part in content)


def problem_of(task: "Task[Any, Any, Any]", answer_field: str | None) -> Problem:
    """The task as a problem, from which `task_of` makes it again. answer_field: of the task's data,
    its text is the reference. Raises `DataError` for a task that cannot be kept so."""
    where = f"task {task.data.idx} of verifiers"
    try:
        messages = messages_read_first(task)
    except ValueError as error:
        raise DataError(f"{where} cannot be used here: {error}") from error
    conversation = [Message(ROLES[message.role], message.content) for message in messages]
    if conversation[-1].role != "user":
        raise DataError(f"{where} cannot be used here: its last message is not a user's")
    if extra := vars(task).keys() - {"data", "config"}:
        raise DataError(
            f"{where} cannot be used here: beside its data it keeps {', '.join(sorted(extra))}, "
            "which would not be there in another process"
        )
    data = task.data.model_dump(mode="json")
    if type(task).data_type().model_validate(data) != task.data:
        raise DataError(f"{where} cannot be used here: its data is another once kept as JSON")
    reference = "" if answer_field is None else _reference(data, answer_field, where)
    metadata = with_messages({TASK: data}, conversation)
    return Problem(transcript(conversation), reference, json.dumps(metadata, sort_keys=True))


def _reference(data: Mapping[str, Any], field: str, where: str) -> str:
    if field not in data:
        raise DataError(
            f"{where} has no {field!r}, its data has {', '.join(sorted(data))}: set answer_field "
            "to the one with the answer, or to null"
        )
    found = data[field]
    return found if isinstance(found, str) else json.dumps(found, sort_keys=True)


def task_of(problem: Problem, taskset: "Taskset[Any, Any]") -> "Task[Any, Any, Any]":
    """The task that a problem was. Raises `ValueError` for a problem that was none of this
    taskset."""
    metadata = json.loads(problem.metadata)
    if not isinstance(metadata, dict) or TASK not in metadata:
        raise ValueError("it was not made by the problem source verifiers")
    kind = type(taskset).task_type()
    try:
        data = kind.data_type().model_validate(metadata[TASK])
    except ValidationError as error:
        raise ValueError(f"its task is not one of {kind.__name__}: {error}") from error
    return kind(data, taskset.config.task)
