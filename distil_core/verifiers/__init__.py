"""Verifiers: each judges a response with a reward and typed feedback. One module each, by name."""

from distil_core.components import ComponentPlace
from distil_core.config.models import ConsultParams
from distil_core.registry import Registry
from distil_core.verifiers.base import Verifier, VerifierOptions

VERIFIERS: Registry[VerifierOptions, Verifier] = Registry(
    ComponentPlace(
        "verifier",
        "distil_core.verifiers",
        "distil.verifiers",
        contract_modules=("base", "pool"),
    ),
    VerifierOptions,
    Verifier,
    {"reveal": "Literal['nothing', 'expected_outputs']"},
)


def build_verifier(params: ConsultParams) -> Verifier:
    """The verifier that `consult` names."""
    return VERIFIERS.build(params.verifier.name, params.verifier.options, reveal=params.reveal)
