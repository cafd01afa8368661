"""What of verifiers has no place in a rollout of text: it is found before anything is sampled."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from verifiers.v1 import Env, Request, Response, Task, Trace
from verifiers.v1.configs.agent import agent_config_fields
from verifiers.v1.session import hook_boundary
from verifiers.v1.utils.decorators import discover_decorated

from distil_core.errors import ConfigError

_TEXT_ONLY_HARNESSES = ("bash", "null")
"""`bash` is what the library takes where nothing is said; `null` is its loop without a program."""
_TOKEN_LIMITS = ("max_input_tokens", "max_output_tokens", "max_total_tokens")
_BOX_FIELDS = ("image", "workdir", "agent_user", "skills", "artifacts", "network_block")


def require_drivable(environment: Env[Any]) -> str:
    """The name of the one agent that the policy plays. Raises `ConfigError` with all that stands in
    the way."""
    agents = agent_config_fields(environment.config)
    found = [*_of_agents(environment), *_of_environment(environment)]
    if found:
        raise ConfigError(
            f"the verifiers environment {environment.config.env_id!r} "
            f"({type(environment).__name__}) cannot be used here, where the policy answers in text "
            f"and nothing else runs: {'; '.join(found)} (docs/environments.md)"
        )
    return next(iter(agents))


def defect_of_task(task: Task[Any, Any, Any]) -> str | None:
    """What one task asks for that there is not here; None where it can be played."""
    asked = [name for name in _BOX_FIELDS if getattr(task.data, name)]
    if "*" not in task.data.network_allow:
        asked.append("network_allow")
    if asked:
        return f"it asks for {', '.join(asked)}, and there is no box here"
    found = list(_of_hooks(task))
    return "; ".join(found) if found else None


def _of_agents(environment: Env[Any]) -> Iterator[str]:
    agents = agent_config_fields(environment.config)
    if len(agents) != 1:
        yield f"it has {len(agents)} agents ({', '.join(agents)}), expected one, the policy"
    for name, config in agents.items():
        harness = environment.config.agent_harnesses()[name].id
        if harness not in _TEXT_ONLY_HARNESSES:
            yield f"its agent {name} runs the harness {harness!r}"
        if config.model is not None or config.client is not None:
            yield f"its agent {name} is pinned to a model or an endpoint"
        yield from (
            f"its agent {name} has {limit}, and tokens are not counted by it here"
            for limit in _TOKEN_LIMITS
            if getattr(config, limit) is not None
        )


def _of_environment(environment: Env[Any]) -> Iterator[str]:
    taskset = environment.taskset
    kind = type(taskset).task_type()
    for hook in ("start", "stop"):
        if getattr(type(environment), hook) is not getattr(Env, hook):
            yield f"it overrides {hook}(), which holds resources for all rollouts"
    if kind.NEEDS_CONTAINER:
        yield f"{kind.__name__} needs a container"
    tools = [*kind.toolsets(taskset.config.task), *taskset.toolsets(taskset.config)]
    if tools:
        names = ", ".join(type(one).__name__ for one in tools)
        yield f"it has tool servers ({names}), which are called by an endpoint's native messages"
    if taskset.config.task.judges:
        yield "its rewards ask a judge, which is a model with an endpoint of its own"


def _of_hooks(task: Task[Any, Any, Any]) -> Iterator[str]:
    """A task's own functions: known from an object of it, as settings may add some."""
    hooks = [*task.hooks("reward"), *task.hooks("metric"), task.setup, task.finalize]
    for hook in hooks:
        if _owner(hook) is not Task and _requires_runtime(hook):
            yield f"{hook.__name__}() takes a runtime"
    if task.plugged_judges():
        yield "its rewards ask a judge, which is a model with an endpoint of its own"
    yield from (
        f"{hook.__name__}() rewrites messages" for hook in discover_decorated(task, "intercept")
    )
    for hook in task.hooks("stop"):
        if hook_boundary(hook, allow_trace=True) in (Request, Response):
            yield f"{hook.__name__}() reads requests to an endpoint, expected a {Trace.__name__}"


def _owner(hook: Callable[..., Any]) -> object:
    of = getattr(hook, "__self__", None)
    kinds = type(of).__mro__ if of is not None else ()
    return next((kind for kind in kinds if hook.__name__ in vars(kind)), None)


def _requires_runtime(hook: Callable[..., Any]) -> bool:
    parameter = inspect.signature(hook).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty
