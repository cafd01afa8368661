"""Problem sources, one module each, found by name."""

from distil_core.components import ComponentPlace
from distil_core.config.models import ProblemParams
from distil_core.problems.base import ProblemSource, ProblemSourceOptions
from distil_core.registry import Registry

PROBLEM_SOURCES: Registry[ProblemSourceOptions, ProblemSource] = Registry(
    ComponentPlace(
        "problem source",
        "distil_core.problems",
        "distil.problem_sources",
        contract_modules=(
            "base",
            "choice",
            "messages",
            "reasoning_gym_library",
            "refused",
            "row_formats",
            "splits",
            "store",
            "turns",
            "verifiers_library",
        ),
    ),
    ProblemSourceOptions,
    ProblemSource,
    {},
)


def build_source(params: ProblemParams) -> ProblemSource:
    """The problem source that `problems` names."""
    return PROBLEM_SOURCES.build(params.source.name, params.source.options)


def build_generalisation_source(params: ProblemParams) -> ProblemSource | None:
    """The harder source that `problems.generalisation` names; None where there is none."""
    component = params.generalisation_source
    if component is None:
        return None
    return PROBLEM_SOURCES.build(component.name, component.options)
