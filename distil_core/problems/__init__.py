"""Problem sources, one module each, found by name."""

from distil_core.config.models import ProblemParams
from distil_core.problems.base import ProblemSource
from distil_core.registry import Registry

PROBLEM_SOURCES = Registry(
    "distil_core.problems",
    kind="problem source",
    contract_modules=("base", "reasoning_gym_library", "refused", "row_formats", "splits", "store"),
)


def build_source(params: ProblemParams) -> ProblemSource:
    """The problem source that `problems` names."""
    source: ProblemSource = PROBLEM_SOURCES.build(params.source.name, params.source.options)
    return source


def build_generalisation_source(params: ProblemParams) -> ProblemSource | None:
    """The harder source that `problems.generalisation` names; None where there is none."""
    component = params.generalisation_source
    if component is None:
        return None
    source: ProblemSource = PROBLEM_SOURCES.build(component.name, component.options)
    return source
