"""Programming by example: find a Python expression that yields the values of the examples.

`4y7x6z9=` has four examples: 4 where y, x and z are 0, then 7 once y is 1, 6 once x is 1 too, and 9
once all three are. A response is Python, such as `4+3*y-1*x+3*z`. It is run on these examples and
on hidden inputs; only its values count, not how it is written.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from pydantic import Field

from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.seeds import generator

NAMES = "xyzw"
DIGITS = tuple("0123456789")
TERM_WIDTH = len("+3*y")
LARGEST_COEFFICIENT = 9
_NUM_HIDDEN_TESTS = 4
_LARGEST_HIDDEN_INPUT = 9
_CHANGED_TERM = 0.6
_WRONG_LENGTH = 1 / 16


class Options(ProblemSourceOptions):
    """Expressions to be found from examples."""

    num_variables: int = Field(ge=1, le=len(NAMES))
    """Of an expression, 1 to 4, so examples in a prompt less one."""
    demonstrator_slip_probability: float = Field(ge=0, le=1)
    """Of the terms that are to lower the value, the share that in a demonstration lower it by
    one too much, an off-by-one error. What a policy learns from such demonstrations is a
    misconception."""


def variables(prompt: str) -> str:
    """The names in `4y7x6z9=`, in the order in which the examples set them to 1."""
    return prompt[1:-1:2]


def outputs(prompt: str) -> list[int]:
    """The value of each example of the prompt, the first one with every variable 0."""
    return [int(digit) for digit in prompt[:-1:2]]


def example_inputs(num_variables: int) -> list[tuple[int, ...]]:
    """The inputs of each example, in the order of `variables`."""
    return [tuple(int(i < n) for i in range(num_variables)) for n in range(num_variables + 1)]


def changes(prompt: str) -> list[int]:
    """How much setting each variable of the prompt changes the value."""
    return [after - before for before, after in pairwise(outputs(prompt))]


def asked_changes(prompt: str, yielded: Sequence[int]) -> list[int]:
    """By how much each variable's term, in the prompt's order, must change the value to make the
    variable's own example right. It starts from `yielded`, the values that an expression really has
    on the examples before, right or wrong. One change for each of `yielded`, limited to what a
    digit can express."""
    return [
        max(-LARGEST_COEFFICIENT, min(LARGEST_COEFFICIENT, after - before))
        for after, before in zip(outputs(prompt)[1:], yielded, strict=False)
    ]


def expression(constant: int, coefficients: Sequence[int], names: str) -> str:
    """`4+3*y-1*x+3*z`."""
    terms = zip(coefficients, names, strict=True)
    return str(constant) + "".join(f"{coefficient:+d}*{name}" for coefficient, name in terms)


class LinearExpressions:
    """An endless seeded stream of examples to fit."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """The split's problems. Hidden inputs and their values are in the metadata."""
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
        """A solution in which each term follows from the values of the terms before it, right or a
        slip."""
        constant = value = outputs(problem.prompt)[0]
        coefficients = []
        for index in range(len(outputs(problem.prompt)) - 1):
            (coefficient,) = asked_changes(problem.prompt[2 * index :], [value])
            slips = random.random() < self._options.demonstrator_slip_probability
            if coefficient < 0 and slips:
                coefficient = max(-LARGEST_COEFFICIENT, coefficient - 1)
            coefficients.append(coefficient)
            value += coefficient
        return expression(constant, coefficients, variables(problem.prompt))

    def corrupted_attempt(self, problem: Problem, random: np.random.Generator) -> str:
        """An attempt with some terms changed from a random one on (or none); one in sixteen is no
        expression, or too long."""
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
        """The coefficients that make the next example right FROM THE VALUE OF THE ATTEMPT'S OWN
        TERMS BEFORE; a term that cannot be read counts as what it should have been."""
        prompt, names = problem.prompt, variables(problem.prompt)
        constant = outputs(prompt)[0]
        value = int(attempt[0]) if attempt[:1] in DIGITS else constant
        coefficients = []
        for index, name in enumerate(names):
            (change,) = asked_changes(prompt[2 * index :], [value])
            coefficients.append(change)
            term = attempt[1 + TERM_WIDTH * index :][:TERM_WIDTH]
            written = len(term) == TERM_WIDTH and term[0] in "+-" and term[1] in DIGITS
            value += int(term[:2]) if written and term[2:] == f"*{name}" else change
        return expression(constant, coefficients, names)[: len(attempt) + 1]


def build(options: Options) -> LinearExpressions:
    """The source, by name from the registry."""
    return LinearExpressions(options)
