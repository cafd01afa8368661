"""Each setting and each component's option says what it is, where it is defined (2 s, and the
libraries' import)."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from distil_core.component_kinds import KINDS, registry_of
from distil_core.config.models import IterationParams
from distil_core.validation import members


def models() -> Iterator[type[BaseModel]]:
    pending: list[type[BaseModel]] = [IterationParams]
    pending += [
        each.module(name).Options for each in map(registry_of, KINDS) for name in each.names()
    ]
    while pending:
        model = pending.pop()
        yield model
        for field in model.model_fields.values():
            pending += members(field.annotation)


@pytest.mark.parametrize("model", sorted(set(models()), key=str), ids=str)
def test_each_setting_has_a_docstring_of_its_own(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []
