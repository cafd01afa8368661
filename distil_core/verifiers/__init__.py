"""Verifiers: they judge a rollout by reward and typed feedback. One module each, found by name."""

from distil_core.config.models import ConsultParams
from distil_core.registry import Registry
from distil_core.verifiers.base import Verifier

VERIFIERS = Registry("distil_core.verifiers", kind="verifier", contract_modules=("base", "pool"))


def build_verifier(params: ConsultParams) -> Verifier:
    """The verifier that `consult` names."""
    verifier: Verifier = VERIFIERS.build(
        params.verifier.name, params.verifier.options, reveal=params.reveal
    )
    return verifier
