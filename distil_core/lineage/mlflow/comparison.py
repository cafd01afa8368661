"""Record a comparison of campaigns: a run of its own, with tags that lead to the compared ones.

It goes to the store of the workspace in which the comparison was asked for, in an experiment of its
own: a comparison belongs to none of the campaigns, and theirs may be in other stores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.environment_tags import user_tags
from distil_core.lineage.mlflow.store import allow_existing, artifact_root, open_store
from distil_core.lineage.pages.chain import run_url
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.client import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "comparisons"


@dataclass(frozen=True)
class ComparedPolicy:
    """One run of a side. side: its letter. lock_digest: of the compared policy's iteration, by
    which its own record is found."""

    side: str
    campaign: str
    seed: int
    iteration: int
    lock_digest: str


@dataclass(frozen=True)
class ComparisonRecord:
    """What is recorded. metrics: flat names. params: such as each side's label. text: Markdown for
    the run's page."""

    name: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    policies: Sequence[ComparedPolicy]
    text: str


def record_comparison(workspace: Workspace, record: ComparisonRecord, page: Path) -> str:
    """Write the run; where it is in MLflow, as the store's address and the page's.

    Raises `LineageError` where the store cannot be used.
    """
    from mlflow.entities import Metric, Param, RunTag

    with open_store(workspace) as client:
        experiment_id = _experiment(client, workspace)
        found = {policy: _recorded(client, policy) for policy in record.policies}
        run = client.create_run(
            experiment_id,
            run_name=record.name,
            tags={
                _internals.SOURCE_TAG: "distil compare",
                "distil.role": "comparison",
                **_tags(found),
                **user_tags(),
            },
        )
        run_id = str(run.info.run_id)
        when_ms = int(run.info.start_time)
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, when_ms, 0) for name, value in record.metrics.items()],
            params=[Param(name, value) for name, value in record.params.items()],
            tags=[RunTag(_internals.NOTE_TAG, f"{record.text}\n\n{_links(found)}")],
        )
        client.log_artifact(run_id, str(page))
        client.set_terminated(run_id)
        return f"{client.tracking_uri}, {run_url(experiment_id, run_id)}"


def _experiment(client: "MlflowClient", workspace: Workspace) -> str:
    root = artifact_root(workspace, client.tracking_uri)
    if client.get_experiment_by_name(EXPERIMENT) is None:
        with allow_existing():
            location = f"{root}/{EXPERIMENT}" if root else None
            client.create_experiment(EXPERIMENT, artifact_location=location)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise LineageError(
            f"MLflow's experiment {EXPERIMENT!r} was deleted: restore it with `mlflow experiments "
            "restore`, or compare with --no-mlflow"
        )
    return str(experiment.experiment_id)


def _recorded(client: "MlflowClient", policy: ComparedPolicy) -> "Run | None":
    """The record of the compared policy's iteration, where this store has it."""
    experiment = client.get_experiment_by_name(policy.campaign)
    if experiment is None:
        return None
    terms = {
        "distil.lock_digest": policy.lock_digest,
        "distil.role": "iteration",
        "distil.iteration": str(policy.iteration),
    }
    text = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in terms.items())
    runs = client.search_runs([experiment.experiment_id], text, max_results=1)
    return runs[0] if runs else None


def _tags(found: Mapping[ComparedPolicy, "Run | None"]) -> dict[str, str]:
    """Such as `distil.compared.B.seed_3`: campaign/iteration, and the record's run where there is
    one."""
    tags = {}
    for policy, run in found.items():
        name = f"distil.compared.{policy.side}.seed_{policy.seed}"
        tags[name] = f"{policy.campaign}/{policy.iteration} {policy.lock_digest[:10]}"
        if run:
            tags[f"{name}.run_id"] = str(run.info.run_id)
    return tags


def _links(found: Mapping[ComparedPolicy, "Run | None"]) -> str:
    lines = ["| side | seed | policy | its record |", "|---|---|---|---|"]
    for policy, run in found.items():
        where = f"[run]({run_url(run.info.experiment_id, run.info.run_id)})" if run else "elsewhere"
        lines.append(
            f"| {policy.side} | {policy.seed} | {policy.campaign}/{policy.iteration} | {where} |"
        )
    return "\n".join(lines)
