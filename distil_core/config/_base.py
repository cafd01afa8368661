"""What all settings are built from: the frozen base, components by name, bounded numbers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    # Infinity is a setting (no bound); pydantic's default would freeze it as null.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Component(Settings):
    """A part chosen by name, with the part's own options (checked by its module at load)."""

    name: str
    options: dict[str, Any] = {}
