"""A problem source: write some digits backwards. `4071` asks for `1704`."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.seeds import generator

DIGITS = "0123456789"


class Options(ProblemSourceOptions):
    """How long problems are, and how well they are demonstrated."""

    num_digits: int = Field(ge=1, le=32)
    """Of a prompt, and of its solution."""
    demonstrator_slip_probability: float = Field(default=0.2, ge=0, le=1)
    """Of a digit in a demonstration, which is then any one."""


class ReversedDigits:
    """An endless seeded stream of digits."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """Each split has a random stream of its own."""
        random = generator(seed, "problems", split)
        while True:
            prompt = "".join(map(str, random.integers(0, 10, self._options.num_digits)))
            yield Problem(prompt=prompt, reference=prompt[::-1])

    def alphabet(self) -> str:
        """Digits, and what the verifier's trace is made of."""
        return f"{DIGITS}+-"

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        """Backwards, with the slips of somebody in a hurry."""
        return self._changed(problem, random, self._options.demonstrator_slip_probability)

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """Half of the digits are guessed."""
        return self._changed(problem, random, 0.5)

    def oracle_characters(self, problem: Problem, attempt: str) -> str:
        """The right digit at each position, whatever stands before it."""
        return problem.reference[: len(attempt) + 1]

    @staticmethod
    def _changed(problem: Problem, random: np.random.Generator, probability: float) -> str:
        return "".join(
            DIGITS[random.integers(0, 10)] if random.random() < probability else digit
            for digit in problem.reference
        )


def build(options: Options) -> ReversedDigits:
    """The source."""
    return ReversedDigits(options)
