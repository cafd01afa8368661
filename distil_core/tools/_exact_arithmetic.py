"""Arithmetic with exact numbers, of bounded cost whatever the expression."""

import ast
import re
from collections.abc import Callable
from fractions import Fraction

MAX_CHARACTERS = 1000
MAX_BITS = 20_000
"""Of a numerator or denominator, at every step."""
_MAX_DIGITS = 1000
_NUM_DECIMALS = 15
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**"})  # noqa: RUF001
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d{1,4})?|\.\d+(?:[eE][+-]?\d{1,4})?")

_Operation = Callable[[Fraction, Fraction], Fraction]


class CannotCalculate(Exception):
    """Why an expression has no value, as a sentence for whoever wrote it."""


def calculate(expression: str) -> Fraction:
    """The exact value of numbers joined by + - * / // % ** and parentheses. Raises
    `CannotCalculate`."""
    if len(expression) > MAX_CHARACTERS:
        raise CannotCalculate(f"The expression has more than {MAX_CHARACTERS} characters.")
    text = expression.translate(_SIGNS).strip()
    try:
        tree = ast.parse(text, mode="eval")
        return _value(tree.body, text)
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise CannotCalculate(f"This is no arithmetic expression: {reason}.") from error
    except (RecursionError, MemoryError) as error:
        raise CannotCalculate("The expression is nested too deep.") from error


def written(value: Fraction) -> str:
    """The number as a decimal where it has one that ends, else as a fraction with a decimal close
    to it. Raises `CannotCalculate` for one of too many digits."""
    if max(abs(value.numerator), value.denominator).bit_length() > _MAX_DIGITS * 3:
        raise CannotCalculate(f"The result has more than {_MAX_DIGITS * 9 // 10} digits.")
    if value.denominator == 1:
        return str(value.numerator)
    twos, rest = _power_of(2, value.denominator)
    fives, rest = _power_of(5, rest)
    if rest == 1:
        return _decimal(value, max(twos, fives))
    about = _decimal(Fraction(round(value * 10**_NUM_DECIMALS), 10**_NUM_DECIMALS), _NUM_DECIMALS)
    return f"{value.numerator}/{value.denominator} (about {about})"


def _decimal(value: Fraction, num_decimals: int) -> str:
    scaled = abs(value) * 10**num_decimals
    digits = str(scaled.numerator).rjust(num_decimals + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-num_decimals]}.{digits[-num_decimals:]}"


def _power_of(base: int, number: int) -> tuple[int, int]:
    """How often `base` divides the number, and what is left."""
    count = 0
    while number % base == 0:
        number //= base
        count += 1
    return count, number


def _value(tree: ast.expr, text: str) -> Fraction:
    """Without recursion, whose limit depends on who calls. Python's own parser goes deep
    enough for any expression of `MAX_CHARACTERS`."""
    values: list[Fraction] = []
    to_do: list[ast.expr | _Operation] = [tree]
    while to_do:
        match to_do.pop():
            case ast.Constant() as node:
                values.append(_number(ast.get_source_segment(text, node) or ""))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                values.append(Fraction(0))
                to_do += [_OPERATIONS[ast.Sub], operand]
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                to_do.append(operand)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATIONS:
                to_do += [_OPERATIONS[type(operator)], right, left]
            case ast.Tuple():
                raise CannotCalculate("Numbers are written without commas: 1000, not 1,000.")
            case ast.expr() as node:
                part = ast.get_source_segment(text, node) or text
                raise CannotCalculate(
                    f"{part[:60]!r} is no number and no operation: numbers, + - * / // % ** and "
                    "parentheses are understood."
                )
            case operation:
                right_value = values.pop()
                values.append(_bounded(operation(values.pop(), right_value)))
    return values.pop()


def _number(text: str) -> Fraction:
    if not _NUMBER.fullmatch(text):
        raise CannotCalculate(f"{text[:60]!r} is no decimal number.")
    mantissa, _, exponent = text.lower().partition("e")
    return _bounded(Fraction(mantissa) * _power(Fraction(10), Fraction(int(exponent or "0"))))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise CannotCalculate("A number on the way is too large.")
    return value


def _divided(left: Fraction, right: Fraction) -> Fraction:
    if not right:
        raise CannotCalculate("Division by zero.")
    return left / right


def _floor(left: Fraction, right: Fraction) -> Fraction:
    return Fraction(_divided(left, right).__floor__())


def _remainder(left: Fraction, right: Fraction) -> Fraction:
    return left - right * _floor(left, right)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CannotCalculate("An exponent that is no whole number has no exact power here.")
    if not base and exponent < 0:
        raise CannotCalculate("Division by zero.")
    bits = max(abs(base.numerator), base.denominator).bit_length()
    if base not in (0, 1, -1) and bits * abs(exponent.numerator) > 2 * MAX_BITS:
        raise CannotCalculate("A number on the way is too large.")
    return base**exponent.numerator


_OPERATIONS: dict[type[ast.operator], _Operation] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: _divided,
    ast.FloorDiv: _floor,
    ast.Mod: _remainder,
    ast.Pow: _power,
}
