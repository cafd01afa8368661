"""A sum modulo `modulus` that is either worked out or claimed: an early choice that can harm late.

`35146=` modulo 7 is answered either by `w` and every running sum, `w1265`, or by `d`, the digits
copied except for the last two, and then the total directly. Both have the same length and are right
when the last character is. An expert that knows the answer finds both ways easy. A student that
does not can add one digit at a time but hardly all at once, and fails only at the last character.
"""

from collections.abc import Iterator
from itertools import accumulate

import numpy as np
from pydantic import Field

from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.seeds import generator

WORKED, DIRECT = "w", "d"
_RANDOM_LINE = 0.3
_WRONG_LENGTH = 1 / 16


class Options(ProblemSourceOptions):
    """Sums that can be worked out, or claimed directly."""

    num_digits: int = Field(ge=3, le=64)
    """Of a prompt, and characters of a solution."""
    modulus: int = Field(ge=2, le=10)
    """2 to 10, so that a value is one digit."""
    expert_direct_probability: float = Field(ge=0, le=1)
    """How often an expert who knows the answer claims it directly."""
    demonstrator_direct_probability: float = Field(ge=0, le=1)
    """How often demonstrations do; there they guess the total."""
    demonstrator_slip_probability: float = Field(ge=0, le=1)
    """Of a line in demonstrations that work it out."""


def total(prompt: str, modulus: int) -> str:
    """The last character of every right response."""
    return str(sum(map(int, prompt[:-1])) % modulus)


def labels(prompt: str, attempt: str, modulus: int) -> str:
    """The right character at each state along `attempt` and after it, given its own previous
    character. The way that the attempt chose decides (working out, if it chose neither), and a
    wrong running sum is added to as it is. The first label is the gold solution's; there is none
    after the end."""
    digits = prompt[:-1]
    if attempt[:1] == DIRECT:
        written = digits[: len(digits) - 2] + total(prompt, modulus)
        return WORKED + written[: len(attempt)]
    values = [WORKED]
    previous = int(digits[0])
    for index, digit in enumerate(digits[1:], start=1):
        if index > len(attempt):
            break
        value = (previous + int(digit)) % modulus
        values.append(str(value))
        line = attempt[index : index + 1]
        previous = int(line) if line and line in "0123456789"[:modulus] else value
    return "".join(values)


class WorkedOrDirect:
    """An endless seeded stream of sums."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        random = generator(seed, "problems", split)
        modulus = self._options.modulus
        while True:
            digits = random.integers(0, modulus, self._options.num_digits).tolist()
            lines = [value % modulus for value in accumulate(digits)][1:]
            yield Problem(
                prompt=f"{''.join(map(str, digits))}=",
                reference=WORKED + "".join(map(str, lines)),
            )

    def alphabet(self) -> str:
        return f"0123456789={WORKED}{DIRECT}"

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        """A solution in which each line follows from the line before it, whether that was right or
        a slip."""
        modulus = self._options.modulus
        if random.random() < self._options.demonstrator_direct_probability:
            return f"{DIRECT}{problem.prompt[:-3]}{random.integers(0, modulus)}"
        value = int(problem.prompt[0])
        lines = [WORKED]
        for digit in problem.prompt[1:-1]:
            slips = random.random() < self._options.demonstrator_slip_probability
            value = (value + int(digit) + int(slips)) % modulus
            lines.append(str(value))
        return "".join(lines)

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """An attempt in either way with some random lines; one in sixteen is too short or too
        long."""
        modulus = self._options.modulus
        attempt = [*(problem.reference if random.random() < 0.5 else DIRECT + problem.prompt[:-2])]
        for index in range(1, len(attempt)):
            if random.random() < _RANDOM_LINE:
                attempt[index] = str(random.integers(0, modulus))
        if random.random() < _WRONG_LENGTH:
            attempt = attempt[:-1] if random.random() < 0.5 else [*attempt, "0"]
        return "".join(attempt)

    def oracle_characters(self, problem: Problem, attempt: str) -> str:
        return labels(problem.prompt, attempt, self._options.modulus)

    def oracle_distributions(self, problem: Problem, attempt: str) -> list[dict[str, float]]:
        """What an expert who knows the answer would write at each state along `attempt` and after
        it: characters and their masses; the empty string stands for ending the response."""
        direct = self._options.expert_direct_probability
        later = self.oracle_characters(problem, attempt)[1 : len(attempt) + 1]
        ended: list[dict[str, float]] = [{"": 1.0} for _ in range(len(attempt) - len(later))]
        return [{DIRECT: direct, WORKED: 1.0 - direct}, *({c: 1.0} for c in later), *ended]


def build(options: Options) -> WorkedOrDirect:
    """The source, by name from the registry."""
    return WorkedOrDirect(options)
