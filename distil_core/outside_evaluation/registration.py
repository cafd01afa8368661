"""What inspect_ai imports by its entry point: the name `distil`, and nothing heavy."""

from typing import TYPE_CHECKING

from inspect_ai.model import modelapi

if TYPE_CHECKING:
    from distil_core.outside_evaluation.provider import DistilModel


@modelapi(name="distil")
def distil() -> "type[DistilModel]":
    """`distil/champion`, `distil/policy-003`, or `distil/FOLDER` of an export."""
    from distil_core.outside_evaluation.provider import DistilModel

    return DistilModel
