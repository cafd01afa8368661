"""Formats of published data sets whose rows need more than naming fields, one module each.

A module defines `Options` (without settings) and `build`, which gives a `RowFormat`.
"""

from collections.abc import Callable
from typing import Any

from distil_core.problems.base import Problem
from distil_core.registry import Registry

Row = dict[str, Any]
RowFormat = Callable[[Row], Problem]
"""Raises `ValueError` or `KeyError` for a row that is not of the format."""

ROW_FORMATS = Registry("distil_core.problems.row_formats", kind="row format")
