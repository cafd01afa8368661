"""Write one iteration into an open MLflow store: its run, its policy, and the campaign's page."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.evaluation.learning_curve import learning_curve_figure, pass_at_ks
from distil_core.lineage.mlflow_card import model_card
from distil_core.lineage.mlflow_chain import Chain, Recorded
from distil_core.lineage.mlflow_evidence import Evidence
from distil_core.lineage.mlflow_gather import IterationRecord, run_metrics, run_tags, snapshot_tags
from distil_core.lineage.mlflow_page import campaign_page, model_page, run_page, version_page
from distil_core.workspace import Workspace, iteration_key

if TYPE_CHECKING:
    from mlflow.client import MlflowClient


def write_iteration(
    client: "MlflowClient",
    workspace: Workspace,
    record: IterationRecord,
    campaign_run_id: str,
    campaign: Chain,
) -> Recorded:
    """Write the iteration's run, policy and registered version; the run ends FINISHED only when
    all is written, FAILED when an error came between.

    campaign: all that is recorded, which may be more than led to this iteration.
    """
    run = client.create_run(
        record.chain.experiment_id,
        start_time=record.start_ms,
        run_name=record.name,
        tags=run_tags(record) | {"mlflow.parentRunId": campaign_run_id},
    )
    run_id = run.info.run_id
    try:
        recorded = _write(client, workspace, record, run_id)
        chain = record.chain.with_recorded(record.this.iteration, recorded)
        _write_pages(client, workspace, record, chain, recorded)
        campaign = campaign.with_recorded(record.this.iteration, recorded)
        _write_campaign(client, campaign_run_id, campaign, record.this)
    except BaseException:
        # A run that stays RUNNING looks alive; the next recording replaces it in either case.
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED", record.end_ms)
    return recorded


def _write(
    client: "MlflowClient", workspace: Workspace, record: IterationRecord, run_id: str
) -> Recorded:
    from mlflow.entities import LoggedModelInput, LoggedModelOutput, Param

    this = record.this
    model_id = _create_model(client, record, run_id)
    client.log_batch(
        run_id,
        metrics=run_metrics(record, model_id),
        params=[Param(name, _shortened(value)) for name, value in this.settings.items()],
    )
    parents = [LoggedModelInput(record.parent.model_id)] if record.parent else []
    client.log_inputs(run_id, datasets=record.datasets, models=parents)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, this.iteration)])
    client.log_artifact(run_id, str(workspace.frozen_params_file(this.iteration)))
    version = _register(client, record, run_id, model_id)
    recorded = Recorded(
        run_id,
        model_id,
        version,
        record.snapshot.ref if record.snapshot else "",
        record.snapshot.commit if record.snapshot else "",
        record.prefect_run_url or "",
    )
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
        **snapshot_tags(record),
    }
    if record.prefect_run_url:
        tags["distil.prefect_run_url"] = record.prefect_run_url
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
        Path(folder, "README.md").write_text(model_card(chain), encoding="utf-8")
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


def _write_campaign(client: "MlflowClient", run_id: str, chain: Chain, this: Evidence) -> None:
    """Add the iteration to the campaign's run, which tells of the whole chain."""
    from mlflow.entities import Metric
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    client.log_batch(
        run_id,
        metrics=[
            Metric(name, value, this.finished_at_ms, this.iteration)
            for name, value in this.metrics.items()
        ],
    )
    client.set_tag(run_id, "mlflow.note.content", campaign_page(chain, MAX_TAG_VAL_LENGTH))
    if pass_at_ks(chain.last.metrics):
        figure = learning_curve_figure({i: e.metrics for i, e in chain.evidence.items()})
        client.log_figure(run_id, figure, "learning_curve.png")
    client.set_terminated(run_id, "FINISHED", chain.last.finished_at_ms)


def _shortened(value: str) -> str:
    """`value` within MLflow's limit; the whole one is in the iteration's YAML artifact."""
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

    if len(value) <= MAX_PARAM_VAL_LENGTH:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()
    end = f" … (cut; {len(value)} characters, sha256 {digest}; whole in the YAML artifact)"
    return value[: MAX_PARAM_VAL_LENGTH - len(end)] + end
