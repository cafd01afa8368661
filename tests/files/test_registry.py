"""Components are found by name and refused with what to do (1 s, and the libraries' import)."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from distil_core.component_kinds import KINDS, registry_of
from distil_core.engines import ENGINES
from distil_core.errors import ConfigError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.registry import Registry
from distil_core.validation import describe
from distil_core.verifiers import VERIFIERS


@pytest.mark.parametrize("registry", map(registry_of, KINDS), ids=lambda registry: registry.kind)
def test_every_listed_component_keeps_the_contract(registry: Registry[Any, Any]) -> None:
    names = registry.place.built_in_names()
    assert names == sorted(names)
    assert names
    for name in names:
        module = registry.module(name)
        assert module.Options.model_config["extra"] == "forbid", name
        assert module.Options.model_config["frozen"], name
        assert module.Options.__doc__, name
        assert callable(module.build), name


def test_contract_modules_are_no_components() -> None:
    assert {"base", "splits", "store"}.isdisjoint(PROBLEM_SOURCES.names())
    assert {"base", "_sampling"}.isdisjoint(ENGINES.names())
    with pytest.raises(ConfigError, match="unknown engine 'base'"):
        ENGINES.module("base")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as raised:
        VERIFIERS.module("chain_arithmetics")
    assert str(raised.value).startswith("unknown verifier 'chain_arithmetics'; known: ")
    assert "chain_arithmetic," in str(raised.value)
    assert "distil_core.verifiers" in str(raised.value)


@pytest.mark.parametrize("name", ["../base", "", "os", "distil_core.verifiers.base"])
def test_a_name_is_never_a_path(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown verifier"):
        VERIFIERS.module(name)


def test_options_are_typed_and_refused_by_key() -> None:
    assert VERIFIERS.options("chain_arithmetic", {"modulus": 7}).model_dump() == {"modulus": 7}
    with pytest.raises(ConfigError) as raised:
        VERIFIERS.options("chain_arithmetic", {"modulus": 11, "moduls": 7})
    assert str(raised.value) == (
        "options of verifier 'chain_arithmetic': modulus: expected less than or equal to 10, "
        "found 11; moduls: no such setting (found 7), did you mean modulus?"
    )


def test_an_own_check_is_described_in_its_own_words() -> None:
    class Pair(BaseModel):
        model_config = ConfigDict(extra="forbid")
        low: int
        high: int

        @model_validator(mode="after")
        def _ordered(self) -> "Pair":
            if self.low > self.high:
                raise ValueError(f"low {self.low} exceeds high {self.high}")
            return self

    def described(values: object) -> str:
        with pytest.raises(ValidationError) as raised:
            Pair.model_validate(values)
        return describe(raised.value, Pair)

    assert described({"low": 3, "high": 1}) == "low 3 exceeds high 1"
    assert described({"low": 3}) == "high: this setting is required, and missing"
    assert described(5).startswith("expected a mapping")
