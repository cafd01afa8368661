"""Values from YAML as typed, frozen models: by strict rules, and with errors a person can act on.

The rules are those of JSON, which YAML's values are a part of: a list is a tuple where one is
expected, text is a date or a path, 1 is 1.0. Nothing else becomes something else: `true` is no
number, "128" is not 128, "no" is not false.
"""

import difflib
import math
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, to_json

from distil_core.credentials import shown
from distil_core.errors import ConfigError

AnyModel = TypeVar("AnyModel", bound=BaseModel)

_MAX_FOUND = 120


class StrictModel(BaseModel):
    """Base of all settings and components' options: frozen, read strictly, and an unknown key is an
    error. The docstring below a field is its documentation."""

    # Infinity is a setting (no bound); pydantic's default would freeze it as null.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        ser_json_inf_nan="constants",
        use_attribute_docstrings=True,
    )

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        """A mapping as YAML gives it, by the rules above; pydantic's own errors."""
        if isinstance(obj, Mapping) and not how:
            return cls.model_validate_json(to_json(obj, inf_nan_mode="constants"), strict=True)
        return super().model_validate(obj, **how)


def validate(model: type[AnyModel], values: Any, where: str, strict: bool = True) -> AnyModel:
    """`values` as `model`; `ConfigError` begins with `where` and names each setting that is wrong,
    what was expected, what was found and what to write.

    strict: all the way down, whatever the config of models inside says. False also turns "128" into
    128 and the like, as versions did that froze old files.
    """
    keys = list(_keys_that_are_no_text(values))
    if keys:
        raise ConfigError(f"{where}: {'; '.join(keys)}")
    try:
        return model.model_validate_json(to_json(values, inf_nan_mode="constants"), strict=strict)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error, model)}") from error


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """A pydantic error as one phrase per setting: where, what was expected, what was found."""
    problems: dict[str, tuple[list[str], ErrorDetails]] = {}
    for problem in error.errors():
        path, _ = _located(model, problem["loc"])
        problems.setdefault(path, ([], problem))[0].append(_expected(problem))
    lines = []
    for path, (expected_ones, problem) in problems.items():
        first, *others = dict.fromkeys(expected_ones)
        text = " or ".join([first, *(each.removeprefix("expected ") for each in others)])
        found = _found(path, problem["input"])
        if problem["type"] == "extra_forbidden":
            _, names = _located(model, problem["loc"])
            text += f" (found {found}){nearest(path.rpartition('.')[2], names)}"
        elif problem["type"] not in ("value_error", "missing"):
            text += f", found {found}{_advice(problem)}"
        lines.append(f"{path}: {text}" if path else text)
    return "; ".join(lines)


def _expected(problem: ErrorDetails) -> str:
    if problem["type"] == "value_error":
        # A check of our own, whose message says what was found.
        return str(problem["ctx"]["error"])
    if problem["type"] == "missing":
        return "this setting is required, and missing"
    if problem["type"] == "extra_forbidden":
        return "no such setting"
    text = problem["msg"].removeprefix("Input should ").removeprefix("be ")
    for technical, plain in _PLAIN.items():
        text = text.replace(technical, plain)
    return f"expected {text}" if problem["msg"].startswith("Input should") else text


_PLAIN = {
    "an object": "a mapping (name: value)",
    "a valid dictionary": "a mapping (name: value)",
    "a valid integer": "a whole number",
    "a valid boolean": "true or false",
    "a valid array": "a list",
    "a valid list": "a list",
    "a valid string": "text",
    "a valid number": "a number",
}


def _found(path: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = shown(path.rpartition(".")[2], value)
    return text if len(text) <= _MAX_FOUND else f"{text[:_MAX_FOUND]}…"


def _advice(problem: ErrorDetails) -> str:
    kind, value = problem["type"], problem["input"]
    advice = ""
    if kind in ("int_type", "float_type") and isinstance(value, str) and _is_number(value):
        whole = kind == "int_type" and float(value).is_integer()
        advice = f": write {int(float(value)) if whole else value.strip()} without quotes"
    elif kind == "int_type" and isinstance(value, float) and value.is_integer():
        advice = f": write {int(value)}"
    elif kind == "bool_type" and (word := str(value).lower()) in _BOOLEANS:
        advice = f": write {_BOOLEANS[word]}"
    elif kind == "string_type" and isinstance(value, int | float):
        advice = ": write it in quotes if it is meant as text"
    return advice


_BOOLEANS = dict.fromkeys(("yes", "on", "true", "y", "1"), "true")
_BOOLEANS |= dict.fromkeys(("no", "off", "false", "n", "0"), "false")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def nearest(name: str, names: list[str]) -> str:
    """What a message about an unknown name adds: those most like it, or else all of them."""
    others = f", known here: {', '.join(names)}" if names else ""
    return did_you_mean(name, names) or others


def did_you_mean(name: str, names: Collection[str]) -> str:
    """The names most like an unknown one, as the end of a message; '' where none is."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f", did you mean {' or '.join(close)}?" if close else ""


def _keys_that_are_no_text(values: Any, path: str = "") -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            inner = f"{path}.{key}" if path else str(key)
            if isinstance(key, str):
                yield from _keys_that_are_no_text(value, inner)
            else:
                yield f"{inner}: expected text as a name, found {key!r}: write it in quotes"
    elif isinstance(values, list | tuple):
        for place, value in enumerate(values):
            yield from _keys_that_are_no_text(value, f"{path}.{place}")


def _located(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """The setting's dotted path without pydantic's names for members of unions, and the names of
    all settings that stand beside it."""
    path: list[str] = []
    beside: list[str] = []
    here: Any = model
    for part in location:
        models = members(here)
        beside = [name for each in models for name in each.model_fields]
        owner = next((each for each in models if part in each.model_fields), None)
        if owner is not None:
            path.append(str(part))
            here = owner.model_fields[str(part)].annotation
        elif isinstance(part, int):
            path.append(str(part))
            here = _element(here)
        elif chosen := [each for each in models if _is_tagged(each, part)]:
            here = Union[tuple(chosen)]  # noqa: UP007
        elif models and len({*_alternatives(here)} - {types.NoneType}) > 1:
            # The name of a member of a union without a tag, which only pydantic knows.
            here = next((each for each in models if each.__name__ == part), Any)
        elif models or _is_mapping(here):
            path.append(part)
            here = _element(here)
    return ".".join(path), beside


def members(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value of this type may be, those inside lists and mappings aside."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in members(part)]
    return []


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [each for part in get_args(annotation) for each in _alternatives(part)]
    return [annotation]


def _is_mapping(annotation: Any) -> bool:
    return any((get_origin(each) or each) is dict for each in _alternatives(annotation))


def _element(annotation: Any) -> Any:
    """The type of what a list or mapping holds."""
    for each in _alternatives(annotation):
        arguments = [part for part in get_args(each) if part is not Ellipsis]
        if get_origin(each) is dict:
            return arguments[1]
        if get_origin(each) in (tuple, list, set, frozenset):
            return arguments[0]
    return None


def _is_tagged(model: type[BaseModel], tag: str) -> bool:
    return any(
        get_origin(field.annotation) is Literal and tag in get_args(field.annotation)
        for field in model.model_fields.values()
    )
