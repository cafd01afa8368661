"""The aliases of a campaign's registered model: which version is the newest, which the champion."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from distil_core.errors import LineageError

if TYPE_CHECKING:
    from mlflow.client import MlflowClient

NEWEST = "newest"
"""Alias of the campaign's last recorded iteration. MLflow reserves `latest` for itself."""

CHAMPION = "champion"
"""Alias of the version that the improvement gate promoted last, by that iteration's decision."""


def point_aliases(client: "MlflowClient", model_name: str, versions: Mapping[str, int]) -> None:
    """Point each alias to its version. An alias that is right already is not touched, so that
    recording again writes nothing. Raises `LineageError` where a version was deleted in MLflow."""
    present = client.get_registered_model(model_name).aliases
    for alias, version in versions.items():
        # In some stores the number is text.
        if alias in present and int(present[alias]) == version:
            continue
        wanted = f"name = '{model_name}' AND version_number = {version}"
        if not client.search_model_versions(wanted):
            raise LineageError(
                f"version {version} of model {model_name}, to be its {alias}, was deleted in "
                "MLflow, but not the run that registered it: delete that run as well (its tag "
                f"distil.model_version is {version}), then `distil record` makes both anew"
            )
        client.set_registered_model_alias(model_name, alias, str(version))
