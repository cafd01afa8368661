"""Objectives over the same feedback tables, one module each, found by name."""

from distil_core.registry import Registry

OBJECTIVES = Registry(
    "distil_core.objectives", kind="objective", contract_modules=("base", "estimators")
)
