"""Checks of a row format: what it makes of rows, and of what is none."""

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any
from unittest import SkipTest

from distil_core.problems.base import Problem
from distil_core.problems.row_formats import ROW_FORMATS, Row, RowFormat, RowFormatOptions
from distil_core.testing.checks import Check, CheckFailedError, require, require_all_passed
from distil_core.testing.contract import Subject, contract_checks

_NO_ROWS: tuple[Row, ...] = ({}, {"no_field_of_any_format": 1})
_NO_VALUES: tuple[Any, ...] = (None, "", 7, [], {}, [None], "\x00")


class _FormatSubject(Subject[RowFormatOptions, RowFormat]):
    rows: Sequence[Row] = ()

    @cached_property
    def row_format(self) -> RowFormat:
        return self.build()

    def some_rows(self) -> Sequence[Row]:
        if not self.rows:
            raise SkipTest("no rows to read: give a file of them (--rows)")
        return self.rows


def row_format_checks(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    rows: Sequence[Row] = (),
) -> list[Check]:
    """The checks of a row format, named as in settings. rows: some that are of the format; without
    any, most checks cannot be run."""
    subject = _FormatSubject(ROW_FORMATS, component, options)
    subject.rows = rows

    return [
        *contract_checks(subject),
        subject.check(
            "it needs no options",
            _needs_no_options,
            "give each option a default: a source names its format without options",
        ),
        subject.check(
            "each row becomes a problem with a prompt, a reference and JSON metadata",
            _makes_problems,
            "return Problem(prompt, reference, json.dumps(..)), each a text",
        ),
        subject.check(
            "the same row becomes the same problem, and is left as it is",
            _is_deterministic,
            "read the row, and change nothing in it",
        ),
        subject.check(
            "what is no row of the format raises ValueError or KeyError",
            _refuses_others,
            "look at a field's type before using it, and say what was expected and found",
        ),
    ]


def check_row_format(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    rows: Sequence[Row] = (),
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    require_all_passed(f"row format {component!s}", row_format_checks(component, options, rows))


def _needs_no_options(subject: _FormatSubject) -> None:
    subject.registry.options(subject.name, {})


def _makes_problems(subject: _FormatSubject) -> None:
    for row in subject.some_rows():
        problem = subject.row_format(copy.deepcopy(row))
        require(isinstance(problem, Problem), f"{problem!r:.80} is no Problem")
        require(bool(problem.prompt.strip()), f"the prompt of {row!r:.80} is empty")
        require(isinstance(problem.reference, str), "the reference is no text")
        require(isinstance(json.loads(problem.metadata), dict), "metadata is no JSON object")


def _is_deterministic(subject: _FormatSubject) -> None:
    for row in subject.some_rows():
        given = copy.deepcopy(row)
        first, second = subject.row_format(given), subject.row_format(given)
        require(first == second, f"{row!r:.80} became two problems")
        require(given == row, f"{row!r:.80} was changed")


def _refuses_others(subject: _FormatSubject) -> None:
    for no_row in _NO_ROWS:
        if not _refuses(subject.row_format, no_row):
            raise CheckFailedError(f"{no_row!r} became a problem")
    for row in subject.some_rows():
        for field in row:
            _refuses(subject.row_format, {key: row[key] for key in row if key != field})
            for value in _NO_VALUES:
                _refuses(subject.row_format, {**row, field: value})


def _refuses(row_format: RowFormat, row: Row) -> bool:
    """Whether it says that this is no row of it; some fields may be missing, or anything."""
    try:
        row_format(copy.deepcopy(row))
    except (ValueError, KeyError):
        return True
    except Exception as error:
        raise CheckFailedError(
            f"on {row!r:.200} it raised {type(error).__name__}: {error}"
        ) from error
    return False
