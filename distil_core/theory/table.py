"""A verified fact as a table: for each row a number, a requirement and a verdict."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One number. passed: None where nothing is required of it."""

    check: str
    computed: float
    requirement: str = ""
    passed: bool | None = None


@dataclass(frozen=True)
class Table:
    """One fact: its statement, and the rows that verify it."""

    title: str
    explanation: str
    rows: list[Row]

    @property
    def passed(self) -> bool:
        """Whether every requirement holds, and there is at least one."""
        verdicts = [row.passed for row in self.rows if row.passed is not None]
        return bool(verdicts) and all(verdicts)


def at_most(check: str, computed: float, limit: float) -> Row:
    """A row that passes when the number is at most `limit`; NaN never passes."""
    return Row(check, computed, f"<= {limit:.6g}", computed <= limit)


def at_least(check: str, computed: float, limit: float) -> Row:
    """A row that passes when the number is at least `limit`; NaN never passes."""
    return Row(check, computed, f">= {limit:.6g}", computed >= limit)


def equal(check: str, computed: float, expected: float, tolerance: float = 1e-10) -> Row:
    """A row that passes within a relative `tolerance` of `expected` (absolute below 1)."""
    close = abs(computed - expected) <= tolerance * max(1.0, abs(expected))
    return Row(check, computed, f"= {expected:.6g}", close)


def unchecked(check: str, computed: float) -> Row:
    """A row that only informs."""
    return Row(check, computed)


def render(table: Table) -> str:
    """Plain text: title, explanation, one aligned line per row, the verdict."""
    width = max(len(row.check) for row in table.rows)
    lines = [table.title, *(f"  {line}" for line in table.explanation.splitlines())]
    verdicts = {True: "PASS", False: "FAIL", None: ""}
    for row in table.rows:
        number = f"{row.computed:.6g}"
        lines.append(
            f"    {row.check:<{width}}  {number:>13}  {row.requirement:<14} "
            f"{verdicts[row.passed]}".rstrip()
        )
    return "\n".join([*lines, f"  {'PASS' if table.passed else 'FAIL'}"])
