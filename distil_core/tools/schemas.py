"""Checks the arguments of a call against its function's schema."""

from collections.abc import Mapping
from typing import Any

from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry

from distil_core.tools.base import ToolFunction
from distil_core.verifiers._final_answer import quoted


def validator_of(function: ToolFunction) -> Validator:
    """What checks the function's arguments. References lead nowhere outside the schema: nothing is
    fetched. Raises `jsonschema.SchemaError` where the parameters are no schema."""
    kind = validator_for(function.parameters, default=Draft202012Validator)
    kind.check_schema(function.parameters)
    validator: Validator = kind(function.parameters, registry=Registry())
    return validator


def misfit(function: ToolFunction, validator: Validator, arguments: Mapping[str, Any]) -> str:
    """Why the arguments do not fit, as a sentence; '' where they do."""
    error = best_match(validator.iter_errors(arguments))
    if error is None:
        return ""
    where = "".join(f"[{quoted(str(part))}]" for part in error.absolute_path)
    message = " ".join(error.message.split())[:300]
    return f"The arguments{where} of {function.name} do not fit: {message}"
