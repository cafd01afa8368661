"""An iteration's settings as MLflow's parameters, and which of them decide when compared."""

import hashlib
from collections.abc import Mapping

from distil_core.config.models import READ_BY_NO_STAGE
from distil_core.lineage.mlflow import _internals


def as_params(settings: Mapping[str, str]) -> dict[str, str]:
    """Dotted settings, shortened to MLflow's limit; the run's YAML artifact has them whole."""
    return {name: _shortened(value) for name, value in settings.items()}


def of_the_chain(params: Mapping[str, str]) -> dict[str, str]:
    """The parameters that decide an iteration's result, whatever its number."""
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
