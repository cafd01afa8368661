"""Chain arithmetic with a written running value per step: the default campaign's task.

`2-2-1-5-1+5=` asks for every running value modulo `modulus`, one digit a line: `06105`. Only a
response whose every line is right counts, so an early slip spoils the rest, and a tool can
re-execute each line from the line before it.
"""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.seeds import generator

_RANDOM_AFTER_SLIP = 0.7
_WRONG_LENGTH = 1 / 16


class Options(ProblemSourceOptions):
    """Chains of additions and subtractions modulo a number, with a running value for each step."""

    num_operations: int = Field(ge=1, le=64)
    """Signs in a chain, so lines in a solution."""
    modulus: int = Field(ge=2, le=10)
    """2 to 10, so that a value is one digit."""
    demonstrator_slip_probability: float = Field(ge=0, le=1)
    """Of a demonstration's steps that pass zero (below 0, or beyond the modulus), the share that
    lands one too high. What a policy learns from such demonstrations is a misconception: it is sure
    of it, so that neither more demonstrations nor a lower temperature helps, and only feedback
    tells."""
    every_step_passes_zero: bool = False
    """Chains that tempt to that slip on every line, for a harder test."""


def running_values(prompt: str, modulus: int) -> list[int]:
    """The running value after each operation of a chain such as `2-2+1=`."""
    values = []
    value = int(prompt[0])
    for sign, operand in steps(prompt):
        value = apply_step(value, sign, operand, modulus)
        values.append(value)
    return values


def steps(prompt: str) -> list[tuple[str, int]]:
    """The (sign, operand) pairs of a chain, in order."""
    return [(prompt[i], int(prompt[i + 1])) for i in range(1, len(prompt) - 1, 2)]


def apply_step(value: int, sign: str, operand: int, modulus: int) -> int:
    """One step of the chain."""
    return (value + operand if sign == "+" else value - operand) % modulus


def re_executed(prompt: str, attempt: str, modulus: int) -> str:
    """What each step yields FROM THE ATTEMPT'S OWN PREVIOUS LINE: one digit for each of the
    attempt's lines and for the next line, up to the end of the chain.

    A line that is not a digit below `modulus` counts as the value it should have been.
    """
    previous = int(prompt[0])
    values = []
    for index, (sign, operand) in enumerate(steps(prompt)):
        value = apply_step(previous, sign, operand, modulus)
        values.append(str(value))
        if index >= len(attempt):
            break
        line = attempt[index]
        previous = int(line) if line in "0123456789"[:modulus] else value
    return "".join(values)


class ChainArithmetic:
    """An endless seeded stream of chains."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        modulus, num_operations = self._options.modulus, self._options.num_operations
        random = generator(seed, "problems", split)
        while self._options.every_step_passes_zero:
            prompt = _hard_chain(random, num_operations, modulus)
            yield Problem(prompt, "".join(map(str, running_values(prompt, modulus))))
        while True:
            operands = random.integers(0, modulus, num_operations + 1)
            signs = random.integers(0, 2, num_operations)
            chain = "".join(
                f"{'+-'[sign]}{operand}" for sign, operand in zip(signs, operands[1:], strict=True)
            )
            prompt = f"{operands[0]}{chain}="
            solution = "".join(map(str, running_values(prompt, modulus)))
            yield Problem(prompt=prompt, reference=solution)

    def alphabet(self) -> str:
        return "0123456789+-="

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        """A solution in which each line follows from the line before it, whether that was right or
        a slip."""
        modulus = self._options.modulus
        value = int(problem.prompt[0])
        lines = []
        for sign, operand in steps(problem.prompt):
            passes_zero = not 0 <= (value + operand if sign == "+" else value - operand) < modulus
            value = apply_step(value, sign, operand, modulus)
            if passes_zero and random.random() < self._options.demonstrator_slip_probability:
                value = (value + 1) % modulus
            lines.append(str(value))
        return "".join(lines)

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """An attempt that is right up to a slip at a random line (or to the end), with mostly
        random digits after it; one in sixteen is too short or too long."""
        lines = list(problem.reference)
        slip = int(random.integers(0, len(lines) + 1))
        for index in range(slip, len(lines)):
            if index == slip or random.random() < _RANDOM_AFTER_SLIP:
                lines[index] = str(random.integers(0, self._options.modulus))
        if random.random() < _WRONG_LENGTH:
            extra = str(random.integers(0, self._options.modulus))
            lines = lines[:slip] if random.random() < 0.5 else [*lines, extra]
        return "".join(lines)

    def oracle_characters(self, problem: Problem, attempt: str) -> str:
        return re_executed(problem.prompt, attempt, self._options.modulus)


def _hard_chain(random: np.random.Generator, num_operations: int, modulus: int) -> str:
    """A chain in which each step falls below zero or reaches the modulus."""
    value = int(random.integers(0, modulus))
    prompt = str(value)
    for _ in range(num_operations):
        # From 0 no addition reaches the modulus, and from modulus - 1 no subtraction falls below 0.
        upward = value == modulus - 1 or (value > 0 and bool(random.integers(0, 2)))
        smallest = modulus - value if upward else value + 1
        sign, operand = "+" if upward else "-", int(random.integers(smallest, modulus))
        prompt += f"{sign}{operand}"
        value = apply_step(value, sign, operand, modulus)
    return f"{prompt}="


def build(options: Options) -> ChainArithmetic:
    """The source, by name from the registry."""
    return ChainArithmetic(options)
