"""Record iterations in MLflow: runs, metrics, datasets, and policies as registered models.

MLflow is the record and never the source: everything is read from the workspace, and can be
recorded again into an empty database. There is one run for each chain (runs.py), iteration and lock
digest. A run is FINISHED only when all of it is written; what a crash left unfinished is deleted
and written again.
"""

import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.lineage.evidence.inputs import read_stage_seconds
from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.address import own_uri, tracking_uri
from distil_core.lineage.mlflow.alias import CHAMPION, NEWEST, point_aliases
from distil_core.lineage.mlflow.environment_tags import user_tags
from distil_core.lineage.mlflow.experiment import find_or_create_experiment, search_runs
from distil_core.lineage.mlflow.gather import gather
from distil_core.lineage.mlflow.owner import OWNER_TAG, may_be_written
from distil_core.lineage.mlflow.params import as_params
from distil_core.lineage.mlflow.runs import ChainRuns, campaign_number
from distil_core.lineage.mlflow.store import open_store
from distil_core.lineage.mlflow.write import add_snapshot, finish_iteration, write_iteration
from distil_core.lineage.pages.chain import (
    Chain,
    Recorded,
    artifact_url,
    curves_url,
    experiment_url,
    run_url,
)
from distil_core.lineage.snapshot.recorded import snapshot_of
from distil_core.lineage.snapshot.take import list_snapshots
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.client import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "CHAMPION",
    "NEWEST",
    "RecordedIteration",
    "is_recorded",
    "record_all",
    "record_iteration",
    "record_report",
    "why_not_recorded",
]

_DIGEST_TAG = "distil.lock_digest"


@dataclass(frozen=True)
class RecordedIteration:
    """Where an iteration is in MLflow. created: False when it was recorded before."""

    run_id: str
    experiment_id: str
    model_name: str
    model_version: int
    created: bool

    @property
    def experiment_page(self) -> str:
        """The address of the campaign's table, relative to MLflow's."""
        return experiment_url(self.experiment_id)

    @property
    def curves_page(self) -> str:
        """The address of the campaign's charts, relative to MLflow's."""
        return curves_url(self.experiment_id)

    @property
    def run_page(self) -> str:
        """The address of the iteration's lineage page, relative to MLflow's."""
        return run_url(self.experiment_id, self.run_id)


def record_iteration(
    workspace: Workspace, iteration: int, prefect_run_url: str | None = None
) -> RecordedIteration:
    """Record a finished iteration, and those before it that are not recorded yet. Later entries of
    `dvc.lock`, such as those of a campaign before a restart, are left alone.

    Raises `LineageError`, with what to do, when a stage of it is missing or not up to date, a file
    is not the recorded one, or the database cannot be used. The first import of MLflow takes about
    6 s and creating the database 1 s; after that, tenths of a second.
    """
    history = History(workspace)
    history.require_finished(iteration)
    with open_store(workspace) as client:
        return _Recorder(workspace, client, history).record(iteration, prefect_run_url)


def record_all(workspace: Workspace) -> list[RecordedIteration]:
    """Record iterations 0 to the last finished one; none when the base is not finished. Iterations
    whose entries in `dvc.lock` have other settings or inputs than now are not recorded
    (`why_not_recorded`).

    Raises `LineageError` as `record_iteration` does; iterations before the error stay recorded.
    """
    history = History(workspace)
    last = history.last_finished()
    if last is None:
        return []
    with open_store(workspace) as client:
        recorder = _Recorder(workspace, client, history)
        return [recorder.record(iteration, None) for iteration in range(last + 1)]


def is_recorded(workspace: Workspace) -> bool:
    """Whether all iterations are finished and recorded. The workspace's own database is read
    without MLflow, a store of the user's through it. Raises like `record_all`."""
    history = History(workspace)
    if history.why_no_more():
        return False
    digests = {history.digest(iteration) for iteration in history.iterations}
    if tracking_uri(workspace) != own_uri(workspace):
        with open_store(workspace) as client:
            recorder = _Recorder(workspace, client, history)
            return all(recorder.has(iteration) for iteration in history.iterations)
    try:
        return digests <= _internals.finished_tags(workspace.mlflow_database, _DIGEST_TAG)
    except sqlite3.Error:
        # It is missing or damaged, which whoever records will say.
        return False


def why_not_recorded(workspace: Workspace) -> str | None:
    """Why `record_all` stops where it does, with the stage to run; None where the whole campaign is
    finished."""
    return History(workspace).why_no_more()


def record_report(workspace: Workspace, report: Path) -> str | None:
    """Log the campaign's report to its run, replacing an earlier one; finished iterations that are
    not recorded yet are recorded first. Returns the address of its page, relative to MLflow's; None
    where no iteration is finished. Raises `LineageError` as `record_iteration` does."""
    history = History(workspace)
    last = history.last_finished()
    if last is None:
        return None
    with open_store(workspace) as client:
        recorder = _Recorder(workspace, client, history)
        experiment_id = recorder.record(last, None).experiment_id
        run_id = recorder.campaign_run_id()
        client.log_artifact(run_id, str(report))
    return artifact_url(experiment_id, run_id, report.name)


class _Recorder:
    """Records with one open store."""

    def __init__(self, workspace: Workspace, client: "MlflowClient", history: History):
        self._workspace = workspace
        self._client = client
        self._history = history
        self._campaign = history.settings(0)["campaign"]
        self._experiment_id = find_or_create_experiment(client, history, self._campaign)
        self._pointed: dict[str, int] = {}
        self._runs = ChainRuns(history, self._search_runs())

    def record(self, iteration: int, prefect_run_url: str | None) -> RecordedIteration:
        """The iteration's record, written now where it is missing. So are those of other iterations
        up to it, and up to the newest one, that somebody deleted."""
        created = self._runs.finished(iteration) is None
        for number in range(max(iteration, self._newest) + 1):
            if self._runs.finished(number):
                self._add_snapshot(number, iteration)
            elif self._is_readable(number, iteration):
                self._create(number, prefect_run_url if number == iteration else None)
        self._point_aliases()
        run = self._runs.finished(iteration)
        if run is None:
            raise LineageError(f"iteration {iteration} was recorded, but MLflow does not show it")
        return self._result(run, created)

    def has(self, iteration: int) -> bool:
        """Whether the iteration is recorded."""
        return self._runs.finished(iteration) is not None

    def _search_runs(self) -> "Iterator[Run]":
        return search_runs(self._client, self._experiment_id, self._campaign)

    def campaign_run_id(self) -> str:
        """The run that is the parent of the iterations' runs."""
        return str(self._find_or_create_campaign_run(0).info.run_id)

    def _is_readable(self, number: int, wanted: int) -> bool:
        """Whether an iteration's files are here. A wanted iteration must be readable, or reading it
        says what is missing; files of later ones may be gone, where a stage was interrupted."""
        return all(self._history.is_here(later) for later in range(wanted + 1, number + 1))

    def _create(self, iteration: int, prefect_run_url: str | None) -> None:
        """Record one iteration; all before it are recorded."""
        for run in self._runs.of(iteration):
            if not may_be_written(run.data.tags.get(OWNER_TAG), self._workspace):
                self._delete(run)
        campaign = self._runs.campaign
        previous = self._runs.finished(iteration - 1) if iteration else None
        record = gather(
            self._workspace,
            self._chain(iteration, iteration - 1),
            self._history.digest(iteration),
            self._shared(iteration),
            campaign_number(campaign) if campaign else self._runs.next_number(),
            previous.info.start_time + 1 if previous else 0,
            prefect_run_url,
        )
        campaign_id = str(self._find_or_create_campaign_run(record.start_ms).info.run_id)
        recorded = write_iteration(self._client, self._workspace, record, campaign_id)
        theirs = self._finished_meanwhile(iteration, campaign_id)
        if theirs:
            # Another workspace recorded the very same iteration, and one record is enough.
            self._delete(self._client.get_run(recorded.run_id))
        else:
            chain = self._chain_of_the_page(iteration)
            finish_iteration(self._client, record, recorded, campaign_id, chain)
        self._runs.add(theirs or self._client.get_run(recorded.run_id))
        self._newest = max(iteration, self._newest)

    def _finished_meanwhile(self, iteration: int, campaign_id: str) -> "Run | None":
        wanted = {
            "distil.iteration": iteration,
            _DIGEST_TAG: self._history.digest(iteration),
            _internals.PARENT_RUN_TAG: campaign_id,
        }
        terms = [f"tags.`{name}` = '{value}'" for name, value in wanted.items()]
        terms.append("attributes.status = 'FINISHED'")
        found = self._client.search_runs([self._experiment_id], " AND ".join(terms), max_results=1)
        return found[0] if found else None

    def _chain_of_the_page(self, iteration: int) -> Chain:
        """All recorded iterations, as far as they can be read."""
        last = iteration
        while last < self._newest and self._history.is_here(last + 1):
            last += 1
        return self._chain(last, last)

    def _add_snapshot(self, iteration: int, wanted: int) -> None:
        """Add a snapshot that was taken later to an iteration's record."""
        run = self._runs.finished(iteration)
        if run is None or "distil.snapshot_ref" in run.data.tags:
            return
        if iteration not in self._with_snapshot or not self._is_readable(iteration, wanted):
            return
        digest = self._history.digest(iteration)
        snapshot = snapshot_of(self._workspace, self._campaign, iteration, digest)
        if snapshot is None:
            return
        recorded = replace(
            _recorded(run), snapshot_ref=snapshot.ref, snapshot_commit=snapshot.commit
        )
        chain = self._chain(iteration, iteration).with_recorded(iteration, recorded)
        add_snapshot(self._client, chain, recorded, read_stage_seconds(self._workspace, iteration))
        self._runs.remove(run)
        self._runs.add(self._client.get_run(run.info.run_id))

    @cached_property
    def _with_snapshot(self) -> set[int]:
        """Iterations that have a snapshot, perhaps of another run of them."""
        every = list_snapshots(self._workspace)
        return {iteration for campaign, iteration in every if campaign == self._campaign}

    def _shared(self, iteration: int) -> Recorded | None:
        """Where another chain has recorded the very same iteration and registered its policy."""
        for run in self._runs.shared(iteration):
            recorded = _recorded(run)
            number = f"name = '{self._campaign}' AND version_number = {recorded.model_version}"
            if self._client.search_model_versions(number):
                return recorded
        return None

    def _chain(self, last: int, last_recorded: int) -> Chain:
        """Iterations 0 to `last`, with the records of those up to `last_recorded` where they
        exist."""
        runs = {number: self._runs.finished(number) for number in range(last_recorded + 1)}
        return Chain(
            self._campaign,
            self._experiment_id,
            {number: self._history[number] for number in range(last + 1)},
            {number: _recorded(run) for number, run in runs.items() if run},
        )

    @cached_property
    def _newest(self) -> int:
        """The last recorded iteration of `dvc.lock`; -1 where there is none."""
        last = self._history.last_finished()
        numbers = range(-1 if last is None else last, -1, -1)
        return next((number for number in numbers if self._runs.finished(number)), -1)

    def _point_aliases(self) -> None:
        """Point the aliases as the newest iteration says, whichever was written last: recording an
        older one again, or restoring a `dvc.lock` from before a restart, does not change them."""
        newest = self._runs.finished(self._newest)
        if newest is None:
            return
        # As recorded, because the files of a recorded iteration need not be here.
        champion = int(newest.data.metrics.get("gate/champion", self._newest))
        runs = {NEWEST: newest, CHAMPION: self._runs.finished(champion)}
        versions = {alias: _recorded(run).model_version for alias, run in runs.items() if run}
        if versions != self._pointed:
            point_aliases(self._client, self._campaign, versions)
            self._pointed = versions

    def _result(self, run: "Run", created: bool) -> RecordedIteration:
        version = int(run.data.tags["distil.model_version"])
        return RecordedIteration(
            run.info.run_id, self._experiment_id, self._campaign, version, created
        )

    def _find_or_create_campaign_run(self, start_ms: int) -> "Run":
        """The run that is the parent of the chain's iterations."""
        run = self._runs.campaign or self._create_campaign_run(start_ms)
        if not run.data.params:
            from mlflow.entities import Param

            settings = as_params(self._history.settings(0))
            params = [Param(name, value) for name, value in settings.items()]
            self._client.log_batch(run.info.run_id, params=params)
            run = self._client.get_run(run.info.run_id)
        self._runs.campaign = run
        return run

    def _create_campaign_run(self, start_ms: int) -> "Run":
        """Create it, unless another recorder creates one for the same chain: whoever sees the
        other's gives way, so that there are never two."""
        while True:
            run = self._client.create_run(
                self._experiment_id,
                start_time=start_ms,
                run_name=self._runs.next_name(),
                tags={
                    _internals.SOURCE_TAG: "dvc repro",
                    "distil.role": "campaign",
                    "distil.campaign": self._campaign,
                    "distil.campaign_number": str(self._runs.next_number()),
                    "distil.iteration": "0",
                    _DIGEST_TAG: self._history.digest(0),
                    "distil.settings_digest": self._runs.settings_digest(),
                    **user_tags(),
                },
            )
            now = ChainRuns(self._history, self._search_runs())
            if all(other.info.run_id == run.info.run_id for other in now.fitting):
                self._runs.add(run)
                return run
            self._client.delete_run(run.info.run_id)
            self._runs = ChainRuns(self._history, self._search_runs())
            if self._runs.campaign:
                return self._runs.campaign
            time.sleep(random.uniform(0.05, 0.5))

    def _delete(self, run: "Run") -> None:
        """Delete what a crash left of a recording, including the policy and its version."""
        run_id = run.info.run_id
        for version in self._client.search_model_versions(f"run_id = '{run_id}'"):
            self._client.delete_model_version(version.name, version.version)
        for model in self._client.search_logged_models(
            [self._experiment_id], f"source_run_id = '{run_id}'"
        ):
            self._client.delete_logged_model(model.model_id)
        self._client.delete_run(run_id)
        self._runs.remove(run)


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
