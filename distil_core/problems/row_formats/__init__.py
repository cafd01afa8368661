"""Formats of published data sets whose rows need more than naming fields, one module each.

A module defines `Options` (without settings) and `build`, which gives a `RowFormat`.
"""

from typing import Any, Protocol, runtime_checkable

from distil_core.components import ComponentPlace
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions, Registry

Row = dict[str, Any]
"""A row as it was read: JSON values by field."""


@runtime_checkable
class RowFormat(Protocol):
    """Makes a problem from a row. Any function with one argument is a `RowFormat`."""

    def __call__(self, row: Row, /) -> Problem:
        """The row's problem. Raises `ValueError` or `KeyError` for a row that is not of the format;
        the message is shown with the row's file and line."""
        ...


class RowFormatOptions(ComponentOptions):
    """Base of a row format's `Options`. A source names its format without options, so that each
    of a format's own has a default."""


ROW_FORMATS: Registry[RowFormatOptions, RowFormat] = Registry(
    ComponentPlace("row format", "distil_core.problems.row_formats", "distil.row_formats"),
    RowFormatOptions,
    RowFormat,
    {},
)
