"""What an iteration takes from those before it: policies, the expert's weights, tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from distil_core.config.models import Component, IterationParams
from distil_core.errors import ConfigError
from distil_core.experts import EXPERTS
from distil_core.experts.base import ExpertOptions, PolicyWeights
from distil_core.workspace import Workspace


def parent_iteration(iteration: int) -> int:
    """The iteration whose policy samples, and is trained further, in this one."""
    if iteration < 1:
        raise ConfigError(
            f"iteration {iteration} has no parent: the base policy is iteration 0, "
            "iterations that train start at 1"
        )
    return iteration - 1


def expert_policy_dir(workspace: Workspace, iteration: int, expert: Component) -> Path:
    """The checkpoint with the expert's weights, or only with the student's tokenizer. expert: as
    `tabulate` names it, here and below."""
    if _uses_parent(iteration, expert):
        weights = _options(expert).policy_weights
        if weights == "ema":
            return workspace.parent_average_dir(iteration)
        if weights == "champion":
            return workspace.parent_champion_dir(iteration)
    return _expert_policy(workspace, iteration, expert)


def expert_dependency(workspace: Workspace, iteration: int, expert: Component) -> str:
    """The expert's checkpoint as a dependency for DVC: a policy of the campaign, or one from
    outside."""
    outside = _options(expert).checkpoint_path
    return outside or workspace.relative(_expert_policy(workspace, iteration, expert))


def sampling_expert_dir(workspace: Workspace, iteration: int, expert: Component) -> Path | None:
    """The checkpoint that writes the expert's own responses; None for an expert that is not a
    policy (a program, an endpoint)."""
    options = _options(expert)
    if not options.writes_responses:
        return None
    if options.checkpoint_path:
        return workspace.root / options.checkpoint_path
    return expert_policy_dir(workspace, iteration, expert)


def _expert_policy(workspace: Workspace, iteration: int, expert: Component) -> Path:
    """The campaign's policy for the dependency: DVC needs one for every expert, and the base never
    changes."""
    if _uses_parent(iteration, expert):
        return workspace.parent_dir(iteration)
    return workspace.policy_dir(0)


def _uses_parent(iteration: int, expert: Component) -> bool:
    """Whether the expert's weights are those that the iteration starts from. The base has no
    iteration before it: the first iteration's expert is the base itself."""
    weights = _options(expert).policy_weights
    if weights not in get_args(PolicyWeights):
        raise ConfigError(
            f"expert {expert.name!r}: the policy_weights of its Options are "
            f"{weights!r}, which are no policy's; expected one of "
            f"{', '.join(get_args(PolicyWeights))}"
        )
    return weights != "frozen" and iteration > 0


def require_history(params: IterationParams, frozen: Callable[[int], IterationParams]) -> None:
    """Raise `ConfigError` where the settings need something that earlier iterations did not keep.

    frozen: the settings of an earlier iteration.
    """
    number = params.iteration
    weights = _options(params.tabulate.expert).policy_weights
    if number > 1 and weights == "ema":
        _require_average(number, frozen(number - 1))
    if weights == "champion":
        _require_champion(number, frozen)
    for earlier in range(first_table(number, params.train.num_tables), number):
        if frozen(earlier).train.num_tables == 1:
            raise ConfigError(
                f"train.num_tables {params.train.num_tables} of iteration {number} reaches back to "
                f"iteration {earlier}, which trained on its own table only and kept no list of "
                "tables for the next ones. Set it from the first iteration on that is to be "
                "reached (`distil restart`), or let it reach less far"
            )


def first_table(iteration: int, num_tables: int | Literal["all"]) -> int:
    """The first iteration whose feedback table this one trains on. num_tables: of `train`."""
    return 1 if num_tables == "all" else max(1, iteration - num_tables + 1)


def _require_average(number: int, parent: IterationParams) -> None:
    if parent.train.average_decay is None:
        raise ConfigError(
            f"tabulate.expert.options.weights ema of iteration {number} needs the average that "
            f"iteration {number - 1} was to keep, but train.average_decay is null there. Set both "
            "from the first iteration on (`distil restart`), or use frozen or snapshot"
        )


def _require_champion(number: int, frozen: Callable[[int], IterationParams]) -> None:
    for earlier in range(1, number):
        gate = frozen(earlier).gate
        if gate.on_regression == "continue" and not gate.keep_champion:
            raise ConfigError(
                f"tabulate.expert.options.weights champion of iteration {number} needs the weights "
                f"of the last policy that was promoted, but the gate of iteration {earlier} hands "
                "on another one (gate.on_regression continue) and does not keep it. Set "
                "gate.keep_champion from the first iteration on (`distil restart`), or use frozen "
                "or snapshot"
            )


def _options(expert: Component) -> ExpertOptions:
    return EXPERTS.options(expert.name, expert.options)
