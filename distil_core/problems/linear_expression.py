"""Programming by example: a Python expression that is fitted to examples of what it should yield.

`4y7x6z9=` shows four: 4 where y, x and z are 0, then 7 once y is 1, 6 once x is 1 too, and 9 once
all three are. The response is Python, `4+3*y-1*x+3*z`. It is run, on these examples and on inputs
that are not shown; how it is written does not matter, only what it yields.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from pydantic import Field

from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.seeds import generator

NAMES = "xyzw"
_NUM_HIDDEN_TESTS = 4
_LARGEST_HIDDEN_INPUT = 9
_CHANGED_TERM = 0.6
_WRONG_LENGTH = 1 / 16


class Options(ComponentOptions):
    """num_variables: of an expression, 1 to 4, so examples in a prompt less one.

    demonstrator_slip_probability: of the terms that lower the value, the share that a
    demonstration has one too large, as when counting down from the value instead of to it. What a
    policy learns from such demonstrations is a misconception.
    """

    num_variables: int = Field(ge=1, le=len(NAMES))
    demonstrator_slip_probability: float = Field(ge=0, le=1)


def variables(prompt: str) -> str:
    """The names in `4y7x6z9=`, in the order in which the examples set them to 1."""
    return prompt[1:-1:2]


def outputs(prompt: str) -> list[int]:
    """What each example of the prompt yields, the first one with every variable 0."""
    return [int(digit) for digit in prompt[:-1:2]]


def example_inputs(num_variables: int) -> list[tuple[int, ...]]:
    """The inputs of each example, in the order of `variables`."""
    return [tuple(int(i < n) for i in range(num_variables)) for n in range(num_variables + 1)]


def changes(prompt: str) -> list[int]:
    """By how much each variable of the prompt, once set, changes what is yielded."""
    return [after - before for before, after in pairwise(outputs(prompt))]


def expression(constant: int, coefficients: Sequence[int], names: str) -> str:
    """`4+3*y-1*x+3*z`."""
    terms = zip(coefficients, names, strict=True)
    return str(constant) + "".join(f"{coefficient:+d}*{name}" for coefficient, name in terms)


class LinearExpressions:
    """An endless seeded stream of examples to fit."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """The hidden inputs and what they should yield are in the metadata."""
        random = generator(seed, "problems", split)
        num_variables = self._options.num_variables
        while True:
            digits = random.integers(0, 10, num_variables + 1).tolist()
            names = "".join(NAMES[i] for i in random.permutation(num_variables))
            prompt = (
                f"{digits[0]}{''.join(f'{n}{d}' for n, d in zip(names, digits[1:], strict=True))}="
            )
            inputs = random.integers(
                -_LARGEST_HIDDEN_INPUT,
                _LARGEST_HIDDEN_INPUT + 1,
                (_NUM_HIDDEN_TESTS, num_variables),
            )
            expected = digits[0] + inputs @ np.array(changes(prompt))
            hidden = [
                {"inputs": values, "output": output}
                for values, output in zip(inputs.tolist(), expected.tolist(), strict=True)
            ]
            reference = expression(digits[0], changes(prompt), names)
            yield Problem(prompt, reference, json.dumps({"hidden_tests": hidden}))

    def alphabet(self) -> str:
        return f"0123456789+-*={NAMES}"

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        coefficients = [
            max(-9, change - 1)
            if change < 0 and random.random() < self._options.demonstrator_slip_probability
            else change
            for change in changes(problem.prompt)
        ]
        return expression(outputs(problem.prompt)[0], coefficients, variables(problem.prompt))

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """Some terms changed, from a random one on (or none); one in sixteen is no expression, or
        one that is too long."""
        names, coefficients = variables(problem.prompt), changes(problem.prompt)
        constant = outputs(problem.prompt)[0]
        slip = int(random.integers(-1, len(coefficients) + 1))
        for index in range(max(slip, 0), len(coefficients)):
            if index == slip or random.random() < _CHANGED_TERM:
                coefficients[index] = int(random.integers(-9, 10))
        if slip < 0:
            constant = int(random.integers(0, 10))
        attempt = expression(constant, coefficients, names)
        if random.random() < _WRONG_LENGTH:
            cut = int(random.integers(0, len(attempt)))
            attempt = attempt[:cut] if random.random() < 0.5 else f"{attempt}+1"
        return attempt

    def oracle_characters(self, problem: Problem, attempt: str) -> str:
        """The reference's: no term's coefficient depends on what the other terms are, so that it is
        right after any of them."""
        return problem.reference[: len(attempt) + 1]


def build(options: Options) -> LinearExpressions:
    """The source, by name from the registry."""
    return LinearExpressions(options)
