"""What MLflow has of a campaign, read at once, in a few queries however long its history is."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.lineage.mlflow import _internals

if TYPE_CHECKING:
    from mlflow.client import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class RecordedRun:
    """A finished run of an iteration. datasets: digest by DVC path. tags: all tags of the run."""

    run_id: str
    iteration: int
    model_version: int
    datasets: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def lock_digest(self) -> str:
        """The digest of what the iteration was made from when it was recorded."""
        return self.tags["distil.lock_digest"]

    @property
    def chain(self) -> str:
        """The campaign's run that is its parent."""
        return self.tags.get(_internals.PARENT_RUN_TAG, "")

    @property
    def snapshot(self) -> str:
        """The snapshot's ref and commit; '' where the iteration has none."""
        ref, commit = (self.tags.get(f"distil.snapshot_{part}", "") for part in ("ref", "commit"))
        return f"{ref} ({commit[:10]})" if ref else ""


@dataclass(frozen=True)
class RecordedCampaign:
    """All finished runs by id, and the registered versions with their aliases by number."""

    runs: Mapping[str, RecordedRun]
    versions: Mapping[int, str]
    aliases: Mapping[str, int]

    def run_of_version(self, version: int) -> RecordedRun | None:
        """The run that registered the version; where somebody deleted it, a run of the same
        iteration in another chain."""
        registered = self.runs.get(self.versions.get(version, ""))
        sharing = (run for run in self.runs.values() if run.model_version == version)
        return registered or next(sharing, None)


def read_campaign(client: "MlflowClient | None", campaign: str) -> RecordedCampaign:
    """Everything recorded for the campaign. Raises `LineageError` when nothing was, or there is no
    database."""
    experiment = client.get_experiment_by_name(campaign) if client else None
    if client is None or experiment is None:
        raise LineageError(
            f"MLflow has no experiment {campaign!r}: nothing of this campaign was recorded. Run "
            "`distil record`"
        )
    runs = {
        run.info.run_id: _recorded(run) for run in _finished(client, str(experiment.experiment_id))
    }
    versions: dict[int, str] = {}
    token = None
    while True:
        page = client.search_model_versions(f"name = '{campaign}'", page_token=token)
        versions |= {int(version.version): str(version.run_id) for version in page}
        token = page.token
        if not token:
            break
    aliases = client.get_registered_model(campaign).aliases if versions else {}
    return RecordedCampaign(runs, versions, {a: int(v) for a, v in aliases.items()})


def _recorded(run: "Run") -> RecordedRun:
    datasets = {}
    for item in run.inputs.dataset_inputs if run.inputs else ():
        path = json.loads(item.dataset.source).get("path")
        if path:
            datasets[path] = item.dataset.digest
    tags = run.data.tags
    return RecordedRun(
        run.info.run_id,
        int(tags["distil.iteration"]),
        int(tags["distil.model_version"]),
        datasets,
        tags,
    )


def _finished(client: "MlflowClient", experiment_id: str) -> Iterator["Run"]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            "tags.`distil.role` = 'iteration' AND attributes.status = 'FINISHED'",
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return
