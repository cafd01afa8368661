"""What all settings are built from: the frozen base, components by name, bounded numbers."""

from functools import partial
from operator import eq
from typing import Annotated, Any

from pydantic import Field

from distil_core.validation import StrictModel

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]


class Settings(StrictModel):
    """Base of all settings. Each is documented by the docstring below it."""


def added(default: Any) -> Any:
    """A setting that earlier versions did not have: it is not written where it has its default, so
    that iterations without it are frozen as they always were."""
    return Field(default=default, exclude_if=partial(eq, default))


class Component(Settings):
    """A part chosen by name, with the part's own options, which its module checks."""

    name: str
    """Which one: a built-in name, one that an installed package adds, or the dotted path of a
    module (docs/components.md)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The part's own options; those left out have the part's defaults."""
