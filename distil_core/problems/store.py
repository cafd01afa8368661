"""Write problems to their Parquet table, and read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distil_core.problems.base import Problem
from distil_core.tables.schemas import PROBLEMS, ProblemRow
from distil_core.tables.store import read_rows, write_table


def write_problems(path: Path, problems: Sequence[Problem], context: dict[str, Any]) -> None:
    """Write one split as a table."""
    rows = [
        ProblemRow(problem.problem_id, problem.prompt, problem.reference, problem.metadata)
        for problem in problems
    ]
    write_table(path, PROBLEMS, rows, context)


def read_problems(path: Path) -> list[Problem]:
    """The problems of one split, in order."""
    return [Problem(row.prompt, row.reference, row.metadata) for row in read_rows(path, PROBLEMS)]
