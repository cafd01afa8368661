"""Settings: `params.yaml` and the frozen file of each iteration, as typed models."""

from distil_core.config.load import (
    load_iteration_params,
    load_params,
    parse_iteration_params,
    parse_params,
)
from distil_core.config.models import IterationParams, Params

__all__ = [
    "IterationParams",
    "Params",
    "load_iteration_params",
    "load_params",
    "parse_iteration_params",
    "parse_params",
]
