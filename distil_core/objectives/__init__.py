"""Objectives: losses over the same feedback tables. One module each, found by name."""

from distil_core.components import ComponentPlace
from distil_core.objectives.base import Objective, ObjectiveOptions
from distil_core.registry import Registry

OBJECTIVES: Registry[ObjectiveOptions, Objective] = Registry(
    ComponentPlace(
        "objective",
        "distil_core.objectives",
        "distil.objectives",
        contract_modules=("base", "estimators"),
    ),
    ObjectiveOptions,
    Objective,
    {},
)
