"""Run events of a campaign's finished stages: which run read and wrote which data sets.

A stage is a job, `sample@003`, an artifact a data set by its path; its version is DVC's digest. A
run's id is made from its entry in `dvc.lock`, so whoever sends the events again, on any machine,
tells of the same runs. What a gate handed over is named as the policy that it is: lineage leads
from that policy to the rollouts that it sampled.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from distil_core.errors import ExportError
from distil_core.lineage.dvc.lock import (
    Entry,
    LockDigests,
    LockedArtifact,
    artifacts,
    entries_until,
    read_entries,
)
from distil_core.lineage.evidence.inputs import read_stage_seconds
from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.evidence.run_times import finished_at_ms, stage_finish_times
from distil_core.lineage.frozen import flatten
from distil_core.lineage.view.graph import Graph, build_graph
from distil_core.pipeline import BASE_POLICY, FEEDBACK, HANDOVER, POLICY, Stage, stages_of
from distil_core.source_code import BUILT_IN_FILE, linked_modules
from distil_core.workspace import Workspace, iteration_key

if TYPE_CHECKING:
    from openlineage.client.event_v2 import OutputDataset, RunEvent
    from openlineage.client.generated.base import DatasetFacet, RunFacet

_RUNS = uuid.UUID("6f1b2a0e-3f6c-5d0e-9d0b-3c5c4c0a7d11")
"""What the ids of all runs are made in, so that they never meet another producer's."""

_POLICY_NAMES = {artifact.path(1).rpartition("/")[2] for artifact in (POLICY, HANDOVER)}
_FEEDBACK_NAME = FEEDBACK.path(1).rpartition("/")[2]


@dataclass(frozen=True)
class _StageRun:
    """One stage's entry. read: what it read, with the policy in place of what was handed over."""

    address: str
    stage: Stage
    iteration: int
    entry: Entry
    read: tuple[LockedArtifact, ...]
    started: datetime
    finished: datetime
    lock_digest: str


def campaign_events(workspace: Workspace, namespace: str | None = None) -> list[RunEvent]:
    """START and COMPLETE of each stage of the finished iterations, in the order they ran.

    namespace: of jobs and data sets; `distil://CAMPAIGN` where it is None. Raises `ExportError`
    where the client is not installed or nothing is finished.
    """
    require_client()
    from openlineage.client.event_v2 import set_producer

    history = History(workspace)
    last = history.last_finished()
    if last is None:
        raise ExportError(f"there is no lineage to tell yet: {history.why_no_more()}")
    set_producer(f"urn:distil:{version('distil')}")
    campaign = history.settings(0)["campaign"]
    entries = entries_until(last, read_entries(workspace))
    runs = _runs(workspace, campaign, entries, last)
    named = namespace or f"distil://{campaign}"
    return [event for run in runs for event in _events(run, campaign, named)]


def require_client() -> None:
    """Raise `ExportError` unless `openlineage-python` is installed."""
    try:
        import openlineage.client  # noqa: F401
    except ImportError as error:
        raise ExportError(
            "the OpenLineage client is not installed: `pip install 'distil[openlineage]'`"
        ) from error


def _runs(
    workspace: Workspace, campaign: str, entries: Mapping[str, Entry], last: int
) -> Iterator[_StageRun]:
    graph = build_graph(entries)
    digests = LockDigests(dict(entries))
    for iteration in range(last + 1):
        end_ms = finished_at_ms(workspace, campaign, iteration, digests)
        finish_s = stage_finish_times(workspace, iteration)
        seconds = read_stage_seconds(workspace, iteration)
        for stage in stages_of(iteration):
            address = stage.address(iteration)
            finished_s = finish_s.get(stage.name, end_ms / 1000)
            yield _StageRun(
                address,
                stage,
                iteration,
                entries[address],
                _read(graph, entries[address]),
                _time(finished_s - seconds.get(stage.name, 0.0)),
                _time(finished_s),
                digests[iteration],
            )


def _read(graph: Graph, entry: Entry) -> tuple[LockedArtifact, ...]:
    """What the stage read, and the tables of a window, which dvc.yaml cannot name one by one. Code
    is no data set, the user's own components no more than ours."""
    found: dict[str, LockedArtifact] = {}
    for path, artifact in artifacts(entry, "deps").items():
        if path == BUILT_IN_FILE or linked_modules(path):
            continue
        real = graph.handed_over.get(path, path)
        found[real] = LockedArtifact(real, artifact.md5, artifact.size_bytes)
    for path in artifacts(entry, "outs"):
        for source in graph.nodes[path].sources if path in graph.nodes else ():
            node = graph.nodes[source]
            found.setdefault(source, LockedArtifact(source, node.md5, 0))
    return tuple(found.values())


def _events(run: _StageRun, campaign: str, namespace: str) -> Iterator[RunEvent]:
    from openlineage.client.event_v2 import (
        InputDataset,
        Job,
        OutputDataset,
        Run,
        RunEvent,
        RunState,
    )
    from openlineage.client.generated.job_type_job import JobTypeJobFacet
    from openlineage.client.generated.output_statistics_output_dataset import (
        OutputStatisticsOutputDatasetFacet,
    )

    job_type = JobTypeJobFacet("BATCH", "DISTIL", "STAGE")
    job = Job(namespace, run.address, {"jobType": job_type})
    this = Run(_run_id(namespace, run.address, run.entry), _run_facets(run, campaign, namespace))
    read = [
        InputDataset(namespace, artifact.path, facets=_facets(artifact)) for artifact in run.read
    ]
    written: list[OutputDataset] = [
        OutputDataset(
            namespace,
            artifact.path,
            facets=_facets(artifact),
            outputFacets={
                "outputStatistics": OutputStatisticsOutputDatasetFacet(size=artifact.size_bytes)
            },
        )
        for artifact in artifacts(run.entry, "outs").values()
    ]
    for state, at in ((RunState.START, run.started), (RunState.COMPLETE, run.finished)):
        yield RunEvent(
            eventTime=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            run=this,
            job=job,
            eventType=state,
            inputs=read,
            outputs=written,
        )


def _run_facets(run: _StageRun, campaign: str, namespace: str) -> dict[str, RunFacet]:
    """The iteration that the stage belongs to, the settings that it read, and by what it ran."""
    from openlineage.client.generated import parent_run
    from openlineage.client.generated.execution_parameters_run import (
        ExecutionParameter,
        ExecutionParametersRunFacet,
    )
    from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet

    iteration = f"{campaign}/{iteration_key(run.iteration)}"
    whole = str(uuid.uuid5(_RUNS, f"{namespace}\n{iteration}\n{run.lock_digest}"))
    settings = [
        ExecutionParameter(key=name, name=name, value=value)
        for values in run.entry.get("params", {}).values()
        for name, value in flatten(values).items()
    ]
    return {
        "parent": parent_run.ParentRunFacet(
            run=parent_run.Run(whole), job=parent_run.Job(namespace, iteration)
        ),
        "executionParameters": ExecutionParametersRunFacet(settings),
        "processing_engine": ProcessingEngineRunFacet(version("distil"), "DistIL"),
    }


def _facets(artifact: LockedArtifact) -> dict[str, DatasetFacet]:
    from openlineage.client.generated.dataset_type_dataset import DatasetTypeDatasetFacet
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet

    return {
        "version": DatasetVersionDatasetFacet(artifact.md5),
        "datasetType": DatasetTypeDatasetFacet(_type(artifact.path)),
    }


def _type(path: str) -> str:
    """What the standard calls it."""
    name = path.rpartition("/")[2]
    if path == BASE_POLICY.path(0) or name in _POLICY_NAMES:
        return "MODEL"
    return "TABLE" if name.endswith(".parquet") or name == _FEEDBACK_NAME else "FILE"


def _run_id(namespace: str, address: str, entry: Entry) -> str:
    """The same for the same command, settings and bytes of the same stage."""
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return str(uuid.uuid5(_RUNS, f"{namespace}\n{address}\n{digest}"))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
