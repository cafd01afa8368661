"""Gather everything that is recorded about an iteration, before the first write."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distil_core.checks.kept import kept_checks
from distil_core.lineage.dvc.config import default_remote_url
from distil_core.lineage.evidence.inputs import read_stage_seconds, read_train_curve
from distil_core.lineage.evidence.iteration import Evidence
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.environment_tags import environment_tags
from distil_core.lineage.pages.chain import Chain, Recorded
from distil_core.lineage.snapshot.recorded import snapshot_of
from distil_core.lineage.snapshot.take import Snapshot
from distil_core.workspace import Workspace, iteration_key

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

_CONTEXTS = {
    "feedback": ("feedback-{key}", "training"),
    "consultations": ("consultations-{key}", "tabulation"),
    "rollouts": ("rollouts-{key}", "consultation"),
    "train_problems": ("train-problems", "sampling"),
    "warm_start": ("warm-start-problems", "training"),
    "eval_problems": ("eval-problems", "evaluation"),
}


@dataclass(frozen=True)
class IterationRecord:
    """Everything that is recorded about one iteration, gathered before the first write.

    parent: the iteration of the policy it started from; previous: the iteration before it, which is
    a different one where a gate kept its parent. shared: where the very same iteration was recorded
    in another chain, whose policy is used here too. campaign_number: the chain's number in the
    experiment. seconds: by stage. checks: values by table and check, of tables that
    are here. curve: training metrics by step. start_ms, end_ms: since the epoch; the stages'
    seconds, ending when the metrics were written.
    """

    chain: Chain
    lock_digest: str
    parent: Recorded | None
    previous: Recorded | None
    shared: Recorded | None
    campaign_number: int
    datasets: "list[DatasetInput]"
    seconds: Mapping[str, float]
    checks: Mapping[str, Mapping[str, float]]
    curve: list[tuple[int, dict[str, float]]]
    tags: Mapping[str, str]
    start_ms: int
    end_ms: int
    prefect_run_url: str | None
    snapshot: Snapshot | None

    @property
    def this(self) -> Evidence:
        """The iteration's own evidence."""
        return self.chain.last

    @property
    def name(self) -> str:
        """The run's name, which differs between the chains of the experiment."""
        notes = ["base"] if self.this.iteration == 0 else []
        if self.campaign_number > 1:
            notes.append(f"campaign {self.campaign_number}")
        name = f"iteration {iteration_key(self.this.iteration)}"
        return f"{name} ({', '.join(notes)})" if notes else name


def gather(
    workspace: Workspace,
    chain: Chain,
    lock_digest: str,
    shared: Recorded | None,
    campaign_number: int,
    not_before_ms: int,
    prefect_run_url: str | None,
) -> IterationRecord:
    """Read everything to record about the chain's last iteration. Raises `LineageError` where a
    file is missing or is not the recorded one."""
    from distil_core.lineage.mlflow.datasets.table import dataset_input

    this = chain.last
    key = iteration_key(this.iteration)
    remote = default_remote_url(workspace)
    datasets = [
        dataset_input(workspace, this.artifacts[role], name.format(key=key), context, remote)
        for role, (name, context) in _CONTEXTS.items()
        if role in this.artifacts
    ]
    seconds = read_stage_seconds(workspace, this.iteration)
    curve = (
        list(read_train_curve(workspace, this.artifacts["train_curve"]))
        if "train_curve" in this.artifacts
        else []
    )
    end_ms = max(this.finished_at_ms, not_before_ms)
    return IterationRecord(
        chain=chain,
        lock_digest=lock_digest,
        parent=chain.recorded.get(this.parent) if this.parent is not None else None,
        previous=chain.recorded.get(this.iteration - 1),
        shared=shared,
        campaign_number=campaign_number,
        datasets=datasets,
        seconds=seconds,
        checks=kept_checks(workspace, this.iteration),
        curve=curve,
        tags=environment_tags(workspace),
        start_ms=max(end_ms - int(1000 * sum(seconds.values())), not_before_ms),
        end_ms=end_ms,
        prefect_run_url=prefect_run_url,
        snapshot=snapshot_of(workspace, this.campaign, this.iteration, lock_digest),
    )


def snapshot_tags(record: IterationRecord) -> dict[str, str]:
    """Ref and commit of the iteration's snapshot; empty where there is none."""
    if record.snapshot is None:
        return {}
    return {
        "distil.snapshot_ref": record.snapshot.ref,
        "distil.snapshot_commit": record.snapshot.commit,
    }


def run_tags(record: IterationRecord) -> dict[str, str]:
    """The tags of an iteration's run. By the first four the run is found again."""
    this = record.this
    tags = {
        "distil.role": "iteration",
        "distil.campaign": this.campaign,
        "distil.iteration": str(this.iteration),
        "distil.lock_digest": record.lock_digest,
        "distil.policy_md5": this.policy.md5,
        "distil.threads": this.settings.get("compute.num_threads", "?"),
        _internals.SOURCE_TAG: f"dvc repro evaluate@{iteration_key(this.iteration)}",
        **record.tags,
        **snapshot_tags(record),
    }
    if record.parent:
        tags["distil.parent_run_id"] = record.parent.run_id
        tags["distil.parent_model_version"] = str(record.parent.model_version)
    if record.previous:
        tags["distil.previous_run_id"] = record.previous.run_id
    if this.decision:
        tags["distil.promoted"] = str(this.decision.promoted).lower()
    if this.decision and this.decision.reasons:
        tags["distil.not_promoted_because"] = this.decision.reasons
    if this.expert is not None:
        tags["distil.expert_policy"] = iteration_key(this.expert)
    if record.prefect_run_url:
        tags["distil.prefect_run_url"] = record.prefect_run_url
    return tags


def run_metrics(record: IterationRecord, model_id: str | None) -> "list[Metric]":
    """The evaluation (also as the policy's metrics, on its dataset), the training curve, what the
    checks of its tables found, and seconds.

    model_id: of the policy; None where its metrics are recorded already.
    """
    from mlflow.entities import Metric

    this = record.this
    step, at_ms = this.iteration, record.end_ms
    evaluated_on = {
        "model_id": model_id,
        "dataset_name": _CONTEXTS["eval_problems"][0],
        "dataset_digest": this.artifacts["eval_problems"].md5,
    }
    metrics = [
        Metric(name, value, at_ms, step, **evaluated_on) for name, value in this.metrics.items()
    ]
    metrics += [
        Metric(f"train/{name}", value, at_ms, train_step)
        for train_step, values in record.curve
        for name, value in values.items()
    ]
    if this.decision:
        metrics += [
            Metric(f"gate/{name}", value, at_ms, step)
            for name, value in this.decision.figures().items()
        ]
    metrics += [
        Metric(f"checks/{table}/{name}", value, at_ms, step)
        for table, values in record.checks.items()
        for name, value in values.items()
    ]
    seconds: dict[str, Any] = dict(record.seconds)
    if seconds:
        seconds["total"] = sum(record.seconds.values())
    metrics += [Metric(f"seconds/{name}", value, at_ms, step) for name, value in seconds.items()]
    return metrics
