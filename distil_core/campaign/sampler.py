"""At which temperature an objective that compares the student with the sampler reads the student.

How rollouts were sampled is no setting of `train`; the feedback tables that it depends on are made
of them, so that other sampling makes it stale all the same.
"""

from collections.abc import Callable, Iterable

from distil_core.config.models import Component, IterationParams, Params, SampleParams
from distil_core.errors import ConfigError


def training_temperature(
    params: IterationParams, earlier: Iterable[int], frozen: Callable[[int], IterationParams]
) -> float | None:
    """The sampler's temperature where the objective has `scores_as_sampled` and it is not 1, else
    None. earlier: the other iterations whose tables are trained on. frozen: their settings.

    Raises `ConfigError` for samplers that a student cannot be read like.
    """
    if not scores_as_sampled(params.train.objective):
        return None
    samplers = [params.sample, *(frozen(iteration).sample for iteration in earlier)]
    for sampler in samplers:
        _require_whole_distribution(
            sampler, params.train.objective, f"iteration {params.iteration}"
        )
    temperatures = sorted({sampler.temperature for sampler in samplers})
    if len(temperatures) > 1:
        raise ConfigError(
            f"train.objective {params.train.objective.name!r} reads the student at the sampler's "
            f"temperature, and the tables of train.num_tables {params.train.num_tables} were "
            f"sampled at {', '.join(f'{each:g}' for each in temperatures)}: let it reach less far"
        )
    return None if temperatures == [1.0] else temperatures[0]


def require_scored_as_sampled(params: Params, where: str) -> None:
    """Raise `ConfigError` where the objective would compare the student with a sampler that it
    cannot be read like."""
    if scores_as_sampled(params.train.objective):
        _require_whole_distribution(params.sample, params.train.objective, where)


def scores_as_sampled(objective: Component) -> bool:
    """Whether the objective, or one that it uses, compares the student with the sampler."""
    from distil_core.objectives import OBJECTIVES

    options = OBJECTIVES.options(objective.name, objective.options)
    used = [name for kind, name in options.components_used if kind == "objective"]
    modules = (OBJECTIVES.module(name) for name in (objective.name, *used))
    return any(getattr(module.Options, "scores_as_sampled", False) for module in modules)


def _require_whole_distribution(sampler: SampleParams, objective: Component, where: str) -> None:
    if sampler.top_p < 1.0:
        raise ConfigError(
            f"{where}: train.objective {objective.name!r} compares the student with the sampler, "
            f"token by token, and sample.top_p {sampler.top_p:g} cuts the sampler's distribution "
            "at a nucleus that is not stored and moves while the student trains: its ratio would "
            "not be 1 even for the policy that sampled. Set sample.top_p: 1.0 (sample.temperature "
            "may be any)"
        )
