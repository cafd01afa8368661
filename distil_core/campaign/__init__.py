"""A campaign's settings: read, checked, frozen for each iteration, chained."""

from distil_core.campaign.load import (
    load_iteration_params,
    load_params,
    parse_iteration_params,
    parse_params,
)

__all__ = ["load_iteration_params", "load_params", "parse_iteration_params", "parse_params"]
