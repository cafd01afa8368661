"""Write one iteration into an open MLflow store: its run, its policy, and the campaign's page."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distil_core.evaluation.learning_curve import learning_curve_figure, pass_at_ks
from distil_core.lineage.mlflow_environment import git_tags, recorder_tags
from distil_core.lineage.mlflow_evidence import (
    Evidence,
    read_stage_seconds,
    read_train_curve,
)
from distil_core.lineage.mlflow_page import (
    Chain,
    Recorded,
    campaign_page,
    model_page,
    run_page,
    version_page,
)
from distil_core.workspace import Workspace, iteration_key

if TYPE_CHECKING:
    from mlflow.client import MlflowClient
    from mlflow.entities import DatasetInput, Metric

NEWEST = "newest"
"""Alias of the version recorded last. MLflow reserves the name `latest` for itself."""

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
    """All that is written about one iteration, gathered before the first write.

    seconds: by stage. curve: training metrics by step. start_ms, end_ms: since the epoch; what
    the stages took, ending when the metrics were written.
    """

    chain: Chain
    lock_digest: str
    parent: Recorded | None
    datasets: "list[DatasetInput]"
    seconds: Mapping[str, float]
    curve: list[tuple[int, dict[str, float]]]
    tags: Mapping[str, str]
    start_ms: int
    end_ms: int
    prefect_run_url: str | None

    @property
    def this(self) -> Evidence:
        """The iteration's own evidence."""
        return self.chain.last

    @property
    def name(self) -> str:
        """The run's name, and the end of the policy's."""
        key = iteration_key(self.this.iteration)
        return f"iteration {key}" + (" (base)" if self.this.iteration == 0 else "")


def gather(
    workspace: Workspace,
    chain: Chain,
    lock_digest: str,
    not_before_ms: int,
    prefect_run_url: str | None,
) -> IterationRecord:
    """Read all there is to record of the chain's last iteration; `LineageError` where a file is
    missing or another than the recorded one."""
    from distil_core.lineage.mlflow_dataset import dataset_input, default_remote

    this = chain.last
    key = iteration_key(this.iteration)
    remote = default_remote(workspace)
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
        parent=chain.recorded.get(this.iteration - 1),
        datasets=datasets,
        seconds=seconds,
        curve=curve,
        tags=git_tags(workspace) | recorder_tags(),
        start_ms=max(end_ms - int(1000 * sum(seconds.values())), not_before_ms),
        end_ms=end_ms,
        prefect_run_url=prefect_run_url,
    )


def write_iteration(
    client: "MlflowClient", workspace: Workspace, record: IterationRecord, campaign_run_id: str
) -> Recorded:
    """Write the iteration's run, policy and registered version; the run ends FINISHED only when
    all is written, FAILED when an error came between."""
    run = client.create_run(
        record.chain.experiment_id,
        start_time=record.start_ms,
        run_name=record.name,
        tags=run_tags(record) | {"mlflow.parentRunId": campaign_run_id},
    )
    run_id = run.info.run_id
    try:
        recorded = _write(client, workspace, record, run_id)
        chain = record.chain.with_recorded(recorded)
        _write_pages(client, workspace, record, chain, recorded)
        write_campaign(client, campaign_run_id, chain)
    except BaseException:
        # A run that stays RUNNING looks alive; the next recording replaces it in either case.
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED", record.end_ms)
    return recorded


def run_tags(record: IterationRecord) -> dict[str, str]:
    """Tags of an iteration's run; by the first four it is found again."""
    this = record.this
    tags = {
        "distil.role": "iteration",
        "distil.campaign": this.campaign,
        "distil.iteration": str(this.iteration),
        "distil.lock_digest": record.lock_digest,
        "distil.policy_md5": this.policy.md5,
        "distil.threads": this.settings.get("compute.num_threads", "?"),
        "mlflow.source.name": f"dvc repro evaluate@{iteration_key(this.iteration)}",
        **record.tags,
    }
    if record.parent:
        tags["distil.parent_run_id"] = record.parent.run_id
        tags["distil.parent_model_version"] = str(record.parent.model_version)
    if this.expert is not None:
        tags["distil.expert_policy"] = iteration_key(this.expert)
    if record.prefect_run_url:
        tags["distil.prefect_run_url"] = record.prefect_run_url
    return tags


def _write(
    client: "MlflowClient", workspace: Workspace, record: IterationRecord, run_id: str
) -> Recorded:
    from mlflow.entities import LoggedModelInput, LoggedModelOutput, Param

    this = record.this
    model_id = _create_model(client, record, run_id)
    client.log_batch(
        run_id,
        metrics=_metrics(record, model_id),
        params=[Param(name, _shortened(value)) for name, value in this.settings.items()],
    )
    parents = [LoggedModelInput(record.parent.model_id)] if record.parent else []
    client.log_inputs(run_id, datasets=record.datasets, models=parents)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, this.iteration)])
    client.log_artifact(run_id, str(workspace.frozen_params_file(this.iteration)))
    version = _register(client, record, run_id, model_id)
    recorded = Recorded(run_id, model_id, version)
    for key, value in (("distil.model_id", model_id), ("distil.model_version", version)):
        client.set_tag(run_id, key, value)
    return recorded


def _create_model(client: "MlflowClient", record: IterationRecord, run_id: str) -> str:
    """The policy as a logged model whose weights are elsewhere; its id."""
    this = record.this
    model = client.create_logged_model(
        record.chain.experiment_id,
        name=f"policy-{iteration_key(this.iteration)}",
        source_run_id=run_id,
        model_type="causal-lm",
        tags={
            "mlflow.model.isExternal": "true",
            "distil.iteration": str(this.iteration),
            "distil.dvc_path": this.policy.path,
            "distil.dvc_md5": this.policy.md5,
            "distil.lock_digest": record.lock_digest,
        },
    )
    return str(model.model_id)


def _register(client: "MlflowClient", record: IterationRecord, run_id: str, model_id: str) -> int:
    """Make the logged model the newest version of the campaign's registered model."""
    this = record.this
    name = record.chain.model_name
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(
            name,
            tags={"distil.campaign": name},
            description=model_page(name, record.chain.experiment_id),
        )
    tags = {"distil.iteration": str(this.iteration)}
    if record.parent:
        tags["distil.parent_version"] = str(record.parent.model_version)
    tags |= {
        "distil.dvc_path": this.policy.path,
        "distil.dvc_md5": this.policy.md5,
        "distil.lock_digest": record.lock_digest,
    }
    version = client.create_model_version(
        name, f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
    )
    return int(version.version)


def _write_pages(
    client: "MlflowClient",
    workspace: Workspace,
    record: IterationRecord,
    chain: Chain,
    recorded: Recorded,
) -> None:
    """Note of the run, description of the version, and the files beside them."""
    from mlflow.models import Model
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    this = record.this
    name, version = chain.model_name, str(recorded.model_version)
    description = version_page(chain)
    note = run_page(chain, record.seconds, record.prefect_run_url, MAX_TAG_VAL_LENGTH)
    client.set_tag(recorded.run_id, "mlflow.note.content", note)
    client.log_text(
        recorded.run_id, run_page(chain, record.seconds, record.prefect_run_url), "lineage.md"
    )
    client.update_model_version(name, version, description)
    client.set_registered_model_alias(name, NEWEST, version)
    with tempfile.TemporaryDirectory() as folder:
        Model(
            run_id=recorded.run_id,
            model_id=recorded.model_id,
            model_uuid=recorded.model_id,
            metadata={
                "mlflow.model.isExternal": True,
                "dvc_path": this.policy.path,
                "dvc_md5": this.policy.md5,
            },
        ).save(str(Path(folder, "MLmodel")))
        Path(folder, "README.md").write_text(description, encoding="utf-8")
        client.log_model_artifacts(recorded.model_id, folder)
    client.finalize_logged_model(recorded.model_id, "READY")
    # What `mlflow.register_model` does for the link from the logged model to its version.
    client.set_logged_model_tags(
        recorded.model_id,
        {
            "mlflow.modelVersions": json.dumps([{"name": name, "version": version}]),
            "mlflow.note.content": description,
        },
    )


def write_campaign(client: "MlflowClient", run_id: str, chain: Chain) -> None:
    """Bring the campaign's run up to the chain's last iteration."""
    from mlflow.entities import Metric
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    this = chain.last
    client.log_batch(
        run_id,
        metrics=[
            Metric(name, value, this.finished_at_ms, this.iteration)
            for name, value in this.metrics.items()
        ],
    )
    client.set_tag(run_id, "mlflow.note.content", campaign_page(chain, MAX_TAG_VAL_LENGTH))
    if pass_at_ks(this.metrics):
        figure = learning_curve_figure({i: e.metrics for i, e in chain.evidence.items()})
        client.log_figure(run_id, figure, "learning_curve.png")
    client.set_terminated(run_id, "FINISHED", this.finished_at_ms)


def _metrics(record: IterationRecord, model_id: str) -> "list[Metric]":
    """Evaluation (also of the policy, on its dataset), the training curve, and seconds."""
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
    seconds: dict[str, Any] = dict(record.seconds)
    if seconds:
        seconds["total"] = sum(record.seconds.values())
    metrics += [Metric(f"seconds/{name}", value, at_ms, step) for name, value in seconds.items()]
    return metrics


def _shortened(value: str) -> str:
    """`value` within MLflow's limit; the whole one is in the iteration's YAML artifact."""
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

    if len(value) <= MAX_PARAM_VAL_LENGTH:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()
    end = f" … (cut; {len(value)} characters, sha256 {digest}; whole in the YAML artifact)"
    return value[: MAX_PARAM_VAL_LENGTH - len(end)] + end
