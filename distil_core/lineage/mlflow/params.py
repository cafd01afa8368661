"""An iteration's settings as MLflow's parameters, and what they say when compared."""

import hashlib
from collections.abc import Mapping

from distil_core.config.models import READ_BY_NO_STAGE
from distil_core.lineage.mlflow import _internals


def as_params(settings: Mapping[str, str]) -> dict[str, str]:
    """Dotted settings within MLflow's limit; the whole ones are in the run's YAML artifact."""
    return {name: _shortened(value) for name, value in settings.items()}


def of_the_chain(params: Mapping[str, str]) -> dict[str, str]:
    """Those that decide what an iteration comes to, whatever number it has."""
    return {
        name: value
        for name, value in params.items()
        if name != "iteration" and name.partition(".")[0] not in READ_BY_NO_STAGE
    }


def _shortened(value: str) -> str:
    longest = _internals.max_param_chars()
    if len(value) <= longest:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()
    end = f" … (cut; {len(value)} characters, sha256 {digest}; whole in the YAML artifact)"
    return value[: longest - len(end)] + end
