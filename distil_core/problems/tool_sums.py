"""Sums for a policy that may call a calculator, turn after turn.

`37+8-4=` is asked. Each step is for the calculator: `37+8` is answered with `45`, `45-4` with `41`,
and the answer is `41`. Whoever does the last step in the head forgets to carry. So a policy has to
learn when to call, with what, and when to stop.

An action is the value so far, and then an operation or nothing more. Each of its characters is one
decision at a place of its own, which has a right answer also after a wrong one. (With brackets
around calls it had none: what should follow the first digit of an answer, where a call was right?)
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from distil_core.problems.base import Problem, ProblemSourceOptions
from distil_core.problems.turns import TurnSoFar
from distil_core.seeds import generator

_SMALLEST, _LARGEST = 10, 99
_LARGEST_OPERAND = 9
_PROMPT = re.compile(r"\d{2}(?:[+-]\d)+=")
_CALL = re.compile(r"(-?\d{1,4})([+-])(\d{1,4})")
_IS_CALL = re.compile(r".[+-]", re.DOTALL)

_CARRYING = 0.75
"""Of a problem's steps."""

_RIGHT_ACTION = 0.5
_DEMONSTRATORS_SLIP = 0.7
_CHANGED_CHARACTER = 0.9
_OTHER_KIND = 0.97
"""Of corrupted actions, cumulative; what is left has a wrong length."""


class Options(ProblemSourceOptions):
    """Additions to a number of two digits and subtractions from it, for a policy with a
    calculator."""

    min_operations: int = Field(ge=1, le=16)
    """The fewest signs in a problem."""
    max_operations: int = Field(ge=1, le=16)
    """The most."""
    demonstrator_slip_probability: float = Field(ge=0, le=1)
    """The share of last steps that a demonstration does in its head, where it forgets to carry or
    borrow. What a policy learns from such demonstrations is a misconception: that it needs no
    calculator there."""

    @model_validator(mode="after")
    def _fewest_first(self) -> "Options":
        if self.min_operations > self.max_operations:
            raise ValueError(
                f"expected min_operations of at most max_operations, found {self.min_operations} "
                f"and {self.max_operations}"
            )
        return self


Operation = tuple[str, int]
"""Sign and operand."""


@dataclass(frozen=True)
class Sum:
    """What is left of a problem: the value so far, and the operations that follow."""

    value: int
    operations: tuple[Operation, ...]

    @classmethod
    def of(cls, prompt: str) -> "Sum":
        """All of a problem. Raises `ValueError` for a text that is none."""
        if not _PROMPT.fullmatch(prompt):
            raise ValueError(f"expected a sum such as 37+8-4=, found {prompt!r}")
        found = re.findall(r"([+-])(\d)", prompt)
        return cls(int(prompt[:2]), tuple((sign, int(operand)) for sign, operand in found))

    @property
    def right_action(self) -> str:
        """What is to be done now: a call of the next step, or the answer where there is none."""
        if not self.operations:
            return str(self.value)
        sign, operand = self.operations[0]
        return f"{self.value}{sign}{operand}"

    def stepped(self) -> "Sum":
        """After its first operation."""
        return Sum(result(self.value, *self.operations[0]), self.operations[1:])

    def called(self, action: str) -> "Sum":
        """What is left after an action: a call of a step does it, and those before it, where its
        first number is the value that these lead to. Any other call, and text that is none, leaves
        the sum as it is."""
        call = read_call(action)
        left = self
        while call is not None and left.operations:
            if (left.value, *left.operations[0]) == call:
                return left.stepped()
            left = left.stepped()
        return self


def result(value: int, sign: str, operand: int) -> int:
    """Of one operation."""
    return value + operand if sign == "+" else value - operand


def carries(value: int, sign: str, operand: int) -> bool:
    """Whether the last digits of one operation carry, or borrow."""
    return not 0 <= result(value % 10, sign, operand % 10) <= 9


def without_carry(value: int, sign: str, operand: int) -> int:
    """One operation, digit by digit, with no carry from one to the other."""
    tens, ones = (
        result(of_value, sign, of_operand) % 10
        for of_value, of_operand in zip(divmod(value, 10), divmod(operand, 10), strict=True)
    )
    return 10 * tens + ones


def read_call(action: str) -> tuple[int, str, int] | None:
    """The call that an action is; None where it is none."""
    found = _CALL.fullmatch(action)
    return None if found is None else (int(found[1]), found[2], int(found[3]))


def is_answer(action: str) -> bool:
    """Whether an action answers; one with a sign after something is meant as a call."""
    return _IS_CALL.search(action) is None


def left_after(prompt: str, actions: Sequence[str]) -> Sum:
    """What is truly left of a problem after these actions."""
    left = Sum.of(prompt)
    for action in actions:
        left = left.called(action)
    return left


class ToolSums:
    """An endless seeded stream of sums."""

    def __init__(self, options: Options):
        self._options = options

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        random = generator(seed, "problems", split)
        fewest, most = self._options.min_operations, self._options.max_operations
        while True:
            value = int(random.integers(_SMALLEST, _LARGEST + 1))
            prompt = str(value)
            for _ in range(int(random.integers(fewest, most + 1))):
                sign, operand = _operation(value, random)
                value = result(value, sign, operand)
                prompt += f"{sign}{operand}"
            yield Problem(f"{prompt}=", str(value))

    def alphabet(self) -> str:
        return "0123456789+-="

    def demonstrated_action(
        self, problem: Problem, turns: Sequence[TurnSoFar], random: np.random.Generator
    ) -> str:
        """The right action; but some last steps are done in the head, where the carry is
        forgotten."""
        return _demonstrated(problem, turns, random, self._options.demonstrator_slip_probability)

    def corrupted_action(
        self, problem: Problem, turns: Sequence[TurnSoFar], random: np.random.Generator
    ) -> str:
        """The right action, one with the last step in the head as the demonstrator's, or the right
        one with a character changed, an answer for a call or a call for an answer; three in a
        hundred are too short or too long."""
        right = left_after(problem.prompt, [turn.action for turn in turns]).right_action
        kind = random.random()
        if kind < _RIGHT_ACTION:
            return right
        if kind < _DEMONSTRATORS_SLIP:
            return _demonstrated(problem, turns, random, 1.0)
        if kind < _CHANGED_CHARACTER:
            return _with_one_changed(right, random)
        if kind < _OTHER_KIND:
            return _of_the_other_kind(right, random)
        cut = int(random.integers(0, len(right)))
        return right[:cut] if random.random() < 0.5 else f"{right}{random.integers(0, 10)}"

    def oracle_action_characters(
        self, problem: Problem, turns: Sequence[TurnSoFar], action: str
    ) -> str:
        left = left_after(problem.prompt, [turn.action for turn in turns])
        return left.right_action[: len(action) + 1]


def _operation(value: int, random: np.random.Generator) -> Operation:
    """One whose result has two digits. Most carry, as far as the value allows: of all that are
    possible, few would."""
    possible = [
        (sign, operand)
        for sign in "+-"
        for operand in range(1, _LARGEST_OPERAND + 1)
        if _SMALLEST <= result(value, sign, operand) <= _LARGEST
    ]
    should_carry = random.random() < _CARRYING
    fitting = [one for one in possible if carries(value, *one) == should_carry] or possible
    return fitting[int(random.integers(0, len(fitting)))]


def _demonstrated(
    problem: Problem,
    turns: Sequence[TurnSoFar],
    random: np.random.Generator,
    slip_probability: float,
) -> str:
    left = left_after(problem.prompt, [turn.action for turn in turns])
    if len(left.operations) != 1 or random.random() >= slip_probability:
        return left.right_action
    # Where there is nothing to carry, the answer is right all the same.
    return str(without_carry(left.value, *left.operations[0]))


def _with_one_changed(action: str, random: np.random.Generator) -> str:
    place = int(random.integers(0, len(action)))
    character = action[place]
    if character in "+-":
        changed = "-" if character == "+" else "+"
    else:
        changed = str(random.integers(0, 10))
    return f"{action[:place]}{changed}{action[place + 1 :]}"


def _of_the_other_kind(right: str, random: np.random.Generator) -> str:
    if not is_answer(right):
        return right[:2]
    return f"{right}{'+-'[random.integers(0, 2)]}{random.integers(1, _LARGEST_OPERAND + 1)}"


def build(options: Options) -> ToolSums:
    """The source, by name from the registry."""
    return ToolSums(options)
