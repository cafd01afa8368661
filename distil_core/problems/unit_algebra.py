"""Unit algebra: express a product of SI units in base units, exponent by exponent.

`V*C/s=` asks for the exponents of kg, m, s and A after each operation, one character each, with `a`
for -1, `b` for -2 and so on: volts times coulombs are joules, and joules per second are watts,
`12b0 12c0`. The units are SI's base units of mechanics and electricity and the derived units with
special names (SI Brochure, 9th edition, table 4). Only a response with every exponent right counts.

An exponent is one character because it is one decision. With a sign and a digit there would be no
good label after a wrong sign: whatever the digit, the line stays wrong.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from pydantic import Field

from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.seeds import generator

UNITS: dict[str, tuple[int, int, int, int]] = {
    "kg": (1, 0, 0, 0),
    "m": (0, 1, 0, 0),
    "s": (0, 0, 1, 0),
    "A": (0, 0, 0, 1),
    "Hz": (0, 0, -1, 0),
    "N": (1, 1, -2, 0),
    "Pa": (1, -1, -2, 0),
    "J": (1, 2, -2, 0),
    "W": (1, 2, -3, 0),
    "C": (0, 0, 1, 1),
    "V": (1, 2, -3, -1),
    "F": (-1, -2, 4, 2),
    "ohm": (1, 2, -3, -2),
    "S": (-1, -2, 3, 2),
    "Wb": (1, 2, -2, -1),
    "T": (1, 0, -2, -1),
    "H": (1, 2, -2, -2),
    "Gy": (0, 2, -2, 0),
}
"""Exponents of kg, m, s and A."""

MAX_EXPONENT = 9
"""A larger one has no character, and an attempt's are kept within it."""

CELLS = {
    exponent: "ihgfedcba0123456789"[exponent + MAX_EXPONENT]
    for exponent in range(-MAX_EXPONENT, MAX_EXPONENT + 1)
}
"""How an exponent is written."""

LINE_WIDTH = 4
SEPARATOR = " "

_EXPONENTS = {cell: exponent for exponent, cell in CELLS.items()}

_CHANGED_CELL = 0.4
_WRONG_LENGTH = 1 / 16

Exponents = tuple[int, ...]


class Options(ProblemSourceOptions):
    """Products and quotients of SI units, in base units."""

    num_operations: int = Field(ge=1, le=16)
    """Of a problem, so lines in a solution."""
    demonstrator_slip_probability: float = Field(ge=0, le=1)
    """Of the divisions by a unit with a negative exponent, the share in which a demonstration
    subtracts that exponent's size and not the exponent, as if a division could only lower
    exponents. What a policy learns from such demonstrations is a misconception."""


def factors(prompt: str) -> list[tuple[str, str]]:
    """The (operation, unit) pairs of a problem such as `V*C/s=`, the first operation being `*`."""
    spaced = f"*{prompt.removesuffix('=')}".replace("*", " *").replace("/", " /")
    return [(word[0], word[1:]) for word in spaced.split()]


def line_text(exponents: Sequence[int]) -> str:
    """One line of a solution."""
    return "".join(CELLS[exponent] for exponent in exponents)


def written_line(text: str, expected: Exponents) -> Exponents:
    """The exponents of a line as written; a cell that cannot be read counts as the expected one."""
    cells = text.ljust(LINE_WIDTH)[:LINE_WIDTH]
    return tuple(
        _EXPONENTS.get(cell, exponent) for cell, exponent in zip(cells, expected, strict=True)
    )


def apply_factor(exponents: Exponents, operation: str, unit: str) -> Exponents:
    """The exponents after one more multiplication or division, limited to what a cell can
    express."""
    sign = 1 if operation == "*" else -1
    return tuple(
        max(-MAX_EXPONENT, min(MAX_EXPONENT, exponent + sign * change))
        for exponent, change in zip(exponents, UNITS[unit], strict=True)
    )


def re_executed(prompt: str, attempt: str) -> str:
    """What each operation yields FROM THE ATTEMPT'S OWN PREVIOUS LINE, as lines of a solution: one
    character for each of the attempt's and one more, up to the solution's end."""
    (_, first), *operations = factors(prompt)
    previous: Exponents = UNITS[first]
    lines = []
    for index, (operation, unit) in enumerate(operations):
        result = apply_factor(previous, operation, unit)
        lines.append(line_text(result))
        start = index * (LINE_WIDTH + len(SEPARATOR))
        previous = written_line(attempt[start : start + LINE_WIDTH], result)
    return SEPARATOR.join(lines)[: len(attempt) + 1]


class UnitAlgebra:
    """An endless seeded stream of products."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        random = generator(seed, "problems", split)
        names = list(UNITS)
        while True:
            first, *others = random.integers(0, len(names), self._options.num_operations + 1)
            signs = random.integers(0, 2, len(others))
            prompt = names[first] + "".join(
                f"{'*/'[sign]}{names[other]}" for sign, other in zip(signs, others, strict=True)
            )
            lines = solution(prompt)
            if all(abs(exponent) <= MAX_EXPONENT for exponent in chain(*lines)):
                yield Problem(f"{prompt}=", SEPARATOR.join(map(line_text, lines)))

    def alphabet(self) -> str:
        return "".join(dict.fromkeys("".join([*UNITS, "*/= ", *_EXPONENTS])))

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        """A solution in which each line follows from the line before it, whether that was right or
        a slip."""
        (_, first), *operations = factors(problem.prompt)
        exponents: Exponents = UNITS[first]
        lines = []
        for operation, unit in operations:
            before = exponents
            exponents = apply_factor(before, operation, unit)
            slips = random.random() < self._options.demonstrator_slip_probability
            if operation == "/" and slips and min(UNITS[unit]) < 0:
                sizes = (abs(change) for change in UNITS[unit])
                exponents = tuple(
                    max(-MAX_EXPONENT, exponent - size)
                    for exponent, size in zip(before, sizes, strict=True)
                )
            lines.append(line_text(exponents))
        return SEPARATOR.join(lines)

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """An attempt that is right up to a random line (or to the end); after it, lines follow from
        the line before except for changed cells. One in sixteen is too short or too long."""
        (_, first), *operations = factors(problem.prompt)
        exponents: Exponents = UNITS[first]
        slip = int(random.integers(0, len(operations) + 1))
        lines = []
        for index, (operation, unit) in enumerate(operations):
            exponents = apply_factor(exponents, operation, unit)
            if index >= slip:
                exponents = tuple(
                    int(np.clip(exponent + random.integers(-4, 5), -MAX_EXPONENT, MAX_EXPONENT))
                    if random.random() < _CHANGED_CELL
                    else exponent
                    for exponent in exponents
                )
            lines.append(line_text(exponents))
        attempt = SEPARATOR.join(lines)
        if random.random() < _WRONG_LENGTH:
            cut = int(random.integers(0, len(attempt)))
            attempt = attempt[:cut] if random.random() < 0.5 else f"{attempt}0"
        return attempt

    def oracle_characters(self, problem: Problem, attempt: str) -> str:
        return re_executed(problem.prompt, attempt)


def solution(prompt: str) -> list[Exponents]:
    """The exponents after each operation, without a limit."""
    signed = [
        [(1 if operation == "*" else -1) * change for change in UNITS[unit]]
        for operation, unit in factors(prompt)
    ]
    return [tuple(map(int, line)) for line in np.cumsum(signed, axis=0)[1:]]


def build(options: Options) -> UnitAlgebra:
    """The source, by name from the registry."""
    return UnitAlgebra(options)
