"""Record iterations in MLflow: runs, metrics, datasets, and policies as registered models.

MLflow is the record and never the source: everything here is read from the workspace, and can be
recorded again into an empty database. One run per iteration and lock digest. A run is FINISHED
only when all of it is there; what a crash left unfinished is deleted and made anew.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.lineage.mlflow_alias import CHAMPION, NEWEST, point_aliases
from distil_core.lineage.mlflow_chain import (
    LEARNING_VIEW,
    Chain,
    Recorded,
    experiment_url,
    run_url,
)
from distil_core.lineage.mlflow_environment import user_tags
from distil_core.lineage.mlflow_evidence import History
from distil_core.lineage.mlflow_gather import gather
from distil_core.lineage.mlflow_page import experiment_page
from distil_core.lineage.mlflow_store import artifact_root, open_store
from distil_core.lineage.mlflow_tables import first_and_last_k
from distil_core.lineage.mlflow_write import write_iteration
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.client import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "CHAMPION",
    "NEWEST",
    "RecordedIteration",
    "record_all",
    "record_iteration",
    "record_report",
]


@dataclass(frozen=True)
class RecordedIteration:
    """Where an iteration is in MLflow. created: False when it had been recorded before."""

    run_id: str
    experiment_id: str
    model_name: str
    model_version: int
    created: bool

    @property
    def experiment_page(self) -> str:
        """Address of the campaign's table, to be added to where MLflow is served."""
        return experiment_url(self.experiment_id)

    @property
    def run_page(self) -> str:
        """Address of the iteration's lineage page, likewise."""
        return run_url(self.experiment_id, self.run_id)


def record_iteration(
    workspace: Workspace, iteration: int, prefect_run_url: str | None = None
) -> RecordedIteration:
    """Record a finished iteration, and those before it that are not recorded yet.

    Raises `LineageError`, with what to do, when a stage of it is missing or not up to date, a
    file is not the recorded one, or the database cannot be used. About 6 s for the first import
    of MLflow and 1 s to create the database; then tenths of a second.
    """
    history = History(workspace)
    history.require_finished(iteration)
    with open_store(workspace) as client:
        return _Recorder(workspace, client, history).record(iteration, prefect_run_url)


def record_all(workspace: Workspace) -> list[RecordedIteration]:
    """Record iteration 0 to the last finished one; none when the base is not finished.

    Raises `LineageError` as `record_iteration` does; iterations before the error stay recorded.
    """
    history = History(workspace)
    last = history.last_finished()
    if last is None:
        return []
    with open_store(workspace) as client:
        recorder = _Recorder(workspace, client, history)
        return [recorder.record(iteration, None) for iteration in range(last + 1)]


def record_report(workspace: Workspace, report: Path) -> None:
    """Log the campaign's report to its run, in place of an earlier one; what is finished and not
    recorded yet is recorded first. Raises `LineageError` as `record_iteration` does."""
    history = History(workspace)
    last = history.last_finished()
    if last is None:
        return
    with open_store(workspace) as client:
        recorder = _Recorder(workspace, client, history)
        recorder.record(last, None)
        client.log_artifact(recorder.campaign_run_id(), str(report))


class _Recorder:
    """One sitting with an open store."""

    def __init__(self, workspace: Workspace, client: "MlflowClient", history: History):
        self._workspace = workspace
        self._client = client
        self._history = history
        self._campaign = history[0].campaign
        self._experiment_id = self._find_or_create_experiment()
        self._pointed: dict[str, int] = {}
        self._runs: dict[tuple[str, ...], list[Run]] = {}
        for run in self._search_runs():
            self._keep(run)

    def record(self, iteration: int, prefect_run_url: str | None) -> RecordedIteration:
        """The iteration's record, made now where it is not there; so are those of the others up
        to it, and up to the newest one, that somebody deleted."""
        created = self._finished(iteration) is None
        for number in range(max(iteration, self._newest) + 1):
            if not self._finished(number):
                self._create(number, prefect_run_url if number == iteration else None)
        self._point_aliases()
        run = self._finished(iteration)
        if run is None:
            raise LineageError(f"iteration {iteration} was recorded, but MLflow does not show it")
        return self._result(run, created)

    def campaign_run_id(self) -> str:
        """The run under which the iterations lie."""
        return str(self._with_digest("campaign", 0)[0].info.run_id)

    def _create(self, iteration: int, prefect_run_url: str | None) -> None:
        """All before it are recorded."""
        for run in list(self._with_digest("iteration", iteration)):
            self._delete(run)
        previous = self._finished(iteration - 1) if iteration else None
        record = gather(
            self._workspace,
            self._chain(iteration, iteration - 1),
            self._history.digest(iteration),
            previous.info.start_time + 1 if previous else 0,
            prefect_run_url,
        )
        last = max(iteration, self._newest)
        recorded = write_iteration(
            self._client,
            self._workspace,
            record,
            self._find_or_create_campaign_run(record.start_ms),
            self._chain(last, last),
        )
        self._keep(self._client.get_run(recorded.run_id))
        self._newest = last

    def _chain(self, last: int, last_recorded: int) -> Chain:
        """Iterations 0 to `last`; where those up to `last_recorded` lie, as far as they do."""
        runs = {number: self._finished(number) for number in range(last_recorded + 1)}
        return Chain(
            self._campaign,
            self._experiment_id,
            {number: self._history[number] for number in range(last + 1)},
            {number: _recorded(run) for number, run in runs.items() if run},
        )

    @cached_property
    def _newest(self) -> int:
        """The last recorded iteration of what `dvc.lock` has; -1 where none is."""
        last = self._history.last_finished()
        numbers = range(-1 if last is None else last, -1, -1)
        return next((number for number in numbers if self._finished(number)), -1)

    def _point_aliases(self) -> None:
        """As the newest iteration says, whichever was written last: an older one that is recorded
        again, or a `dvc.lock` of before a restart that is brought back, changes that not."""
        champion = self._history[self._newest].champion
        numbers = {NEWEST: self._newest, CHAMPION: champion}
        runs = {alias: self._finished(number) for alias, number in numbers.items()}
        versions = {alias: _recorded(run).model_version for alias, run in runs.items() if run}
        if versions != self._pointed:
            point_aliases(self._client, self._campaign, versions)
            self._pointed = versions

    def _finished(self, iteration: int) -> "Run | None":
        runs = self._with_digest("iteration", iteration)
        return next((run for run in runs if run.info.status == "FINISHED"), None)

    def _with_digest(self, role: str, iteration: int) -> list["Run"]:
        return self._runs.get((role, str(iteration), self._history.digest(iteration)), [])

    def _keep(self, run: "Run") -> None:
        self._runs.setdefault(_key(run), []).append(run)

    def _result(self, run: "Run", created: bool) -> RecordedIteration:
        version = int(run.data.tags["distil.model_version"])
        return RecordedIteration(
            run.info.run_id, self._experiment_id, self._campaign, version, created
        )

    def _search_runs(self) -> Iterator["Run"]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.`distil.campaign` = '{self._campaign}'",
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _find_or_create_experiment(self) -> str:
        experiment = self._client.get_experiment_by_name(self._campaign)
        root = artifact_root(self._workspace, self._client.tracking_uri)
        location = f"{root}/{self._campaign}" if root else None
        if experiment is None:
            experiment_id = self._client.create_experiment(
                self._campaign,
                artifact_location=location,
                tags={f"mlflow.sharedViewState.{LEARNING_VIEW}": self._learning_view()},
            )
            page = experiment_page(self._campaign, str(experiment_id))
            self._client.set_experiment_tag(experiment_id, "mlflow.note.content", page)
            return str(experiment_id)
        if experiment.lifecycle_stage != "active":
            raise LineageError(
                f"MLflow experiment {self._campaign!r} was deleted: restore it with `mlflow "
                f"experiments restore --experiment-id {experiment.experiment_id}`, or choose "
                "another `campaign` in params.yaml"
            )
        if location and experiment.artifact_location != location:
            raise LineageError(
                f"{self._workspace.mlflow_database.name} was made in another folder and keeps its "
                f"files there ({experiment.artifact_location}): move the workspace back, or move "
                "the database away; a new one is filled from dvc.lock and the files"
            )
        return str(experiment.experiment_id)

    def _learning_view(self) -> str:
        """The table of iterations with their scores, as MLflow's own "share" stores a view."""
        scores = [f"pass_at_{k}" for k in first_and_last_k(self._history[0].metrics)]
        metrics = [*scores, "response_tokens_mean", "seconds/total"]
        view = {
            "searchFilter": "tags.`distil.role` = 'iteration'",
            "orderByKey": "tags.`mlflow.runName`",
            "orderByAsc": True,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": [*[f"metrics.`{name}`" for name in metrics], "attributes.`Models`"],
        }
        return json.dumps(view)

    def _find_or_create_campaign_run(self, start_ms: int) -> str:
        """The run under which the iterations of one chain lie: a campaign restarted with another
        base has another, so that the two can be compared."""
        found = self._with_digest("campaign", 0)
        if found:
            return str(found[0].info.run_id)
        run = self._client.create_run(
            self._experiment_id,
            start_time=start_ms,
            run_name="campaign",
            tags={
                "mlflow.source.name": "dvc repro",
                "distil.role": "campaign",
                "distil.campaign": self._campaign,
                "distil.iteration": "0",
                "distil.lock_digest": self._history.digest(0),
                **user_tags(),
            },
        )
        self._keep(run)
        return str(run.info.run_id)

    def _delete(self, run: "Run") -> None:
        """Delete what a crash left of a recording, the policy and its version included."""
        run_id = run.info.run_id
        for version in self._client.search_model_versions(f"run_id = '{run_id}'"):
            self._client.delete_model_version(version.name, version.version)
        for model in self._client.search_logged_models(
            [self._experiment_id], f"source_run_id = '{run_id}'"
        ):
            self._client.delete_logged_model(model.model_id)
        self._client.delete_run(run_id)
        self._runs[_key(run)].remove(run)


def _key(run: "Run") -> tuple[str, ...]:
    """What it is a run of; runs of other programs in the experiment have no such tags."""
    tags = run.data.tags
    return tuple(tags.get(f"distil.{name}", "") for name in ("role", "iteration", "lock_digest"))


def _recorded(run: "Run") -> Recorded:
    tags = run.data.tags
    return Recorded(
        run.info.run_id,
        tags["distil.model_id"],
        int(tags["distil.model_version"]),
        tags.get("distil.snapshot_ref", ""),
        tags.get("distil.snapshot_commit", ""),
        tags.get("distil.prefect_run_url", ""),
    )
