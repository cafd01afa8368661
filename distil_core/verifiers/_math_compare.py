"""Exact comparison of two mathematical answers. Only `_math_worker` runs this.

Rational numbers are compared as such. Other constants must agree in 80 digits. Expressions with
variables must agree in 80 digits at points that are drawn from the two expressions themselves, so
that no answer can be built to agree only there. This module imports nothing of this project.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import sympy

Node = dict[str, Any]

_DIGITS = 110
_AGREEING_DIGITS = 80
_NUM_POINTS = 6
_LEAVES = ("number", "expression")
_REGIONS = ("union", "or", "and", "difference")
_UNEVALUATED = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative)
_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": sympy.StrictLessThan, "<=": sympy.LessThan, ">": sympy.StrictGreaterThan,
    ">=": sympy.GreaterThan, "=": sympy.Eq, "!=": sympy.Ne,
}  # fmt: skip
_FLIPPED = {">": "<", ">=": "<=", "<": "<", "<=": "<=", "=": "=", "!=": "!="}


def parsed(node: Node, read: Callable[[str], Any]) -> Node:
    """The node with SymPy expressions as leaves. Raises what `read` raises."""
    found = dict(node)
    if node["kind"] == "number":
        found["value"] = sympy.Rational(node["value"])
    elif node["kind"] == "expression":
        found["value"] = read(node["latex"])
    elif node.get("left"):
        found["left"] = {"kind": "expression", "value": read(node["left"]), "unit": []}
    for key in ("items", "sides"):
        if key in node:
            found[key] = [parsed(part, read) for part in node[key]]
    return found


def scaled(node: Node, factor: str) -> Node:
    """A leaf converted to another unit."""
    return {**node, "value": node["value"] * sympy.Rational(factor)}


class Comparison:
    """allow_unevaluated: accept `37 * 43 + 11` for 1602, that is, a calculation for its value."""

    def __init__(self, allow_unevaluated: bool):
        self._allow_unevaluated = allow_unevaluated

    def equal(self, reference: Node, answer: Node) -> bool:
        """Whether the answer equals the reference, in kind too: a tuple is no set."""
        if {reference["kind"], answer["kind"]} == {"named", "relation"}:
            return self._equal_relations(_as_relation(reference), _as_relation(answer))
        one, other = self._value(reference), self._value(answer)
        if one is None or other is None or not _same_left(reference, answer):
            return False
        kinds = (one["kind"], other["kind"])
        if kinds == ("relation", "relation") and self._equal_relations(one, other):
            return True
        if any(map(_is_region, (one, other))):
            return _equal_regions(one, other)
        return self._equal_values(one, other)

    def _equal_values(self, one: Node, other: Node) -> bool:
        kinds = (one["kind"], other["kind"])
        if all(kind in _LEAVES for kind in kinds):
            return self._equal_leaves(one, other)
        if "ratio" in kinds:
            return self._equal_ratios(one, other)
        is_collection = all(kind in ("list", "set", "tuple") for kind in kinds)
        return is_collection and self._equal_collections(one, other)

    def _value(self, node: Node) -> Node | None:
        """The value that the node states; None for equations that contradict themselves."""
        if node["kind"] == "named" or (
            node["kind"] == "relation" and set(node["signs"]) == {"="} and _is_constant(node)
        ):
            sides = [side for side in node["sides"] if _is_constant(side)]
            lenient = Comparison(allow_unevaluated=True)
            if not all(lenient.equal(side, sides[-1]) for side in sides[:-1]):
                return None
            return self._value(node["sides"][-1])
        if node["kind"] in ("set", "list") and len(node["items"]) == 1:
            return self._value(node["items"][0])
        return node

    def _equal_leaves(self, one: Node, other: Node) -> bool:
        first, second = one["value"], other["value"]
        if not self._allow_unevaluated:
            if one["kind"] == "number" and other["kind"] != "number":
                return False
            if _has_operation(second) and not _has_operation(first):
                return False
        if _is_percent(one) != _is_percent(other) and not (one["unit"] and other["unit"]):
            percent, number = (first, second) if _is_percent(one) else (second, first)
            return same(percent, number) or same(percent / 100, number)
        return same(first, second)

    def _equal_collections(self, one: Node, other: Node) -> bool:
        kinds = {one["kind"], other["kind"]}
        items, others = one["items"], other["items"]
        if kinds == {"set", "tuple"} or len(items) != len(others):
            return False
        if kinds == {"tuple"} and len(items) == 2:
            brackets = [(node["open"], node["close"]) for node in (one, other)]
            if brackets[0] != brackets[1]:
                return False
        is_interval = [node["kind"] == "tuple" and _is_half_open(node) for node in (one, other)]
        if is_interval[0] != is_interval[1]:
            return False
        if "tuple" in kinds or any(item["kind"] == "ellipsis" for item in (*items, *others)):
            return all(map(self._equal_items, items, others))
        return self._equal_in_some_order(items, others)

    def _equal_items(self, one: Node, other: Node) -> bool:
        if "ellipsis" in (one["kind"], other["kind"]):
            return one["kind"] == other["kind"]
        return self.equal(one, other)

    def _equal_in_some_order(self, items: list[Node], others: list[Node]) -> bool:
        left = list(others)
        for item in items:
            found = next((other for other in left if self.equal(item, other)), None)
            if found is None:
                return False
            left.remove(found)
        return True

    def _equal_ratios(self, one: Node, other: Node) -> bool:
        parts, others = _quotient_parts(one), _quotient_parts(other)
        if not parts or not others or len(parts) != len(others):
            return False
        (first, *firsts), (second, *seconds) = parts, others
        return all(same(first * b, second * a) for a, b in zip(firsts, seconds, strict=True))

    def _equal_relations(self, one: Node, other: Node) -> bool:
        """Whether two relations have sides that differ by the same expression, up to a factor."""
        differences = []
        for node in (one, other):
            if len(node["sides"]) != 2 or not all(s["kind"] in _LEAVES for s in node["sides"]):
                return False
            left, right = (side["value"] for side in node["sides"])
            differences.append(right - left if node["signs"][0] in (">", ">=") else left - right)
        signs = [_FLIPPED[node["signs"][0]] for node in (one, other)]
        if signs[0] != signs[1] or any(same(d, sympy.Integer(0)) for d in differences):
            return False
        ratio = sympy.simplify(differences[0] / differences[1])
        if ratio.free_symbols or not ratio.is_number or ratio == 0:
            return False
        return signs[0] in ("=", "!=") or bool(ratio.is_positive)


def _as_relation(node: Node) -> Node:
    if node["kind"] == "relation":
        return node
    sides = [node["left"] or {"kind": "none"}, *node["sides"]]
    return {"kind": "relation", "sides": sides, "signs": ["="] * (len(sides) - 1)}


def _same_left(one: Node, other: Node) -> bool:
    """x = 5 differs from y = 5. What a longer name stands for is unknown, so it is not compared."""
    if not one.get("left") or not other.get("left"):
        return True
    return bool(one["left"]["value"] == other["left"]["value"])


def _is_constant(node: Node) -> bool:
    if node["kind"] in _LEAVES:
        return isinstance(node["value"], sympy.Expr) and not node["value"].free_symbols
    return node["kind"] == "relation" and all(map(_is_constant, node["sides"]))


def _is_percent(node: Node) -> bool:
    return node["unit"][:1] in (["%"], ["percent"]) or node["unit"][:2] == ["per", "cent"]


def _is_half_open(node: Node) -> bool:
    return (node["open"], node["close"]) in (("(", "]"), ("[", ")"))


def _has_operation(value: Any) -> bool:
    return isinstance(value, sympy.Basic) and value.has(*_UNEVALUATED)


def _quotient_parts(node: Node) -> list[Any]:
    """The parts of a ratio or of a single value; empty for anything else."""
    if node["kind"] == "ratio" and all(item["kind"] in _LEAVES for item in node["items"]):
        return [item["value"] for item in node["items"]]
    if node["kind"] in _LEAVES and isinstance(node["value"], sympy.Expr):
        numerator, denominator = sympy.fraction(node["value"])
        return [numerator, denominator]
    return []


def _is_region(node: Node) -> bool:
    if node["kind"] == "relation":
        return set(node["signs"]) != {"="}
    return node["kind"] in _REGIONS


def _equal_regions(one: Node, other: Node) -> bool:
    """Whether inequalities, intervals and unions of one variable are the same set of real
    numbers."""
    try:
        first, second = _region(one), _region(other)
    except (TypeError, ValueError, NotImplementedError, KeyError):
        return False
    if first == second:
        return True
    empty = sympy.S.EmptySet
    return bool(first - second == empty and second - first == empty)


def _region(node: Node) -> Any:
    kind = node["kind"]
    if kind == "relation":
        pairs = zip(node["sides"], node["sides"][1:], node["signs"], strict=False)
        return sympy.Intersection(*(_half_line(*pair) for pair in pairs))
    if kind == "tuple" and len(node["items"]) == 2:
        ends = [item["value"] for item in node["items"]]
        return sympy.Interval(*ends, node["open"] == "(", node["close"] == ")")
    if kind == "set":
        return sympy.FiniteSet(*(item["value"] for item in node["items"]))
    if kind == "number":
        return sympy.FiniteSet(node["value"])
    if kind not in (*_REGIONS, "list"):
        raise ValueError(f"{kind} is no set of numbers")
    first, *others = (_region(item) for item in node["items"])
    if kind == "difference":
        return sympy.Complement(first, sympy.Union(*others))
    return (sympy.Intersection if kind == "and" else sympy.Union)(first, *others)


def _half_line(left: Node, right: Node, sign: str) -> Any:
    one, other = left["value"], right["value"]
    symbols = one.free_symbols | other.free_symbols
    if len(symbols) != 1:
        raise ValueError("a relation of several variables")
    real = {symbols.pop(): sympy.Symbol("x", real=True)}
    return _RELATIONS[sign](one.subs(real), other.subs(real)).as_set()


def same(one: Any, other: Any) -> bool:
    """Whether two SymPy values are equal."""
    if isinstance(one, sympy.MatrixBase) or isinstance(other, sympy.MatrixBase):
        is_both = isinstance(one, sympy.MatrixBase) and isinstance(other, sympy.MatrixBase)
        return is_both and one.shape == other.shape and all(map(same, one, other))
    if not (isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr)):
        return bool(one == other)
    if one == other:
        return True
    imaginary = sympy.Symbol("i")
    return _same_values(one.doit(), other.doit()) or (
        imaginary in one.free_symbols | other.free_symbols
        and _same_values(one.subs(imaginary, sympy.I).doit(), other.subs(imaginary, sympy.I).doit())
    )


def _same_values(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if one.is_Rational and other.is_Rational:
        return False
    if one.is_finite is False or other.is_finite is False:
        return False
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if not symbols:
        return _agree(one, other) is True
    agreed = 0
    for point in range(_NUM_POINTS):
        values = {symbol: _coordinate(f"{point} {symbol} {one} {other}") for symbol in symbols}
        agree = _agree(one.subs(values), other.subs(values))
        if agree is False:
            return False
        agreed += agree is True
    return agreed > _NUM_POINTS // 2 or (agreed == 0 and sympy.simplify(one - other) == 0)


def _coordinate(seed: str) -> Any:
    """A rational number between -4 and 4."""
    digest = int.from_bytes(hashlib.sha256(seed.encode("utf-8", "replace")).digest()[:6], "big")
    return sympy.Rational(digest % 8_000_001 - 4_000_000, 999_983)


def _agree(one: Any, other: Any) -> bool | None:
    """Whether two expressions agree at the points drawn; None where they have no value there."""
    first, second = one.evalf(_DIGITS), other.evalf(_DIGITS)
    if not all(value.is_number and value.is_finite for value in (first, second)):
        return None
    if not all(value.is_Number or value.as_real_imag()[0].is_Number for value in (first, second)):
        return None
    scale = abs(first) + abs(second)
    if scale == 0:
        return True
    return bool(abs(first - second) <= scale * sympy.Float(10, _DIGITS) ** -_AGREEING_DIGITS)
