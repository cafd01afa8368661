"""Options of an objective that change over iterations: each iteration is frozen with its number."""

from distil_core.config.models import Component, LinearSchedule


def scheduled_options(objective: Component, iteration: int) -> dict[str, float]:
    """The options that are a `LinearSchedule`, with their numbers in that iteration. Raises
    `ConfigError` for an objective that is not there or options that it refuses."""
    # Objectives import torch.
    from distil_core.objectives import OBJECTIVES

    options = OBJECTIVES.options(objective.name, objective.options)
    return {
        name: value.at(iteration) for name, value in options if isinstance(value, LinearSchedule)
    }
