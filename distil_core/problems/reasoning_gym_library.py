"""The reasoning-gym library as this project uses it: pinned to a version, and never running an
answer.

Several of its generators score an answer with `eval` or with sympy's parser, which evaluates Python
too. A model writes the answers, so those generators are refused.
"""

import ast
import importlib.metadata
import inspect
from typing import TYPE_CHECKING, Any

from distil_core.errors import ConfigError

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset

_RUNNING = frozenset({"eval", "exec", "compile", "__import__", "parse_expr", "sympify", "S"})
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What the rules raise, which are of many authors, on answers that are not as they expect."""


def create_dataset(name: str, config: dict[str, Any]) -> "ProceduralDataset":
    """The library's generator. Raises `ConfigError` for an unknown name or invalid settings."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ConfigError(
            f"the library reasoning-gym cannot be imported ({error}): install it with "
            "`pip install 'distil[reasoning-gym]'`"
        ) from error
    if name not in DATASETS:
        known = ", ".join(sorted(DATASETS))
        raise ConfigError(f"reasoning-gym has no generator {name!r}; known: {known}")
    require_that_answers_do_not_run(name, DATASETS[name][0])
    try:
        return reasoning_gym.create_dataset(name, **config)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"the reasoning-gym generator {name!r} does not take the settings {config}: "
            f"{type(error).__name__}: {error}"
        ) from error


def require_version(expected: str) -> None:
    """Raise `ConfigError` unless this version of the library is installed."""
    try:
        found = importlib.metadata.version("reasoning-gym")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            "the library reasoning-gym is not installed: `pip install 'distil[reasoning-gym]'`"
        ) from error
    if found != expected:
        raise ConfigError(
            f"reasoning-gym {found} is installed, the settings say {expected}, and versions differ "
            "in what they generate: install that one, or change problems.source.options.version"
        )


def require_that_answers_do_not_run(name: str, kind: "type[ProceduralDataset]") -> None:
    """Refuse a generator whose scoring rule, or a function of its module that the rule calls, calls
    what runs text as code. Whether that text is the answer is not examined."""
    rule = inspect.unwrap(kind.score_answer)
    module = inspect.getmodule(rule)
    if module is None:
        raise ConfigError(f"the scoring rule of the reasoning-gym generator {name!r} has no source")
    functions = {
        node.name: node
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.FunctionDef)
    }
    reached: set[str] = set()
    ahead = [rule.__name__]
    while ahead:
        called = _called_names(functions[ahead.pop()])
        if running := called & _RUNNING - functions.keys():
            raise ConfigError(
                f"the reasoning-gym generator {name!r} scores answers with "
                f"{', '.join(sorted(running))}, which can run them as code: it is not used here"
            )
        ahead += sorted(called & functions.keys() - reached)
        reached |= called


def _called_names(function: ast.FunctionDef) -> set[str]:
    called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    names = {node.id for node in called if isinstance(node, ast.Name)}
    return names | {node.attr for node in called if isinstance(node, ast.Attribute)}
