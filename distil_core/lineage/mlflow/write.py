"""Write one iteration into an open MLflow store: its run, its policy, and the campaign's page."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.evaluation.learning_curve import learning_curve_figure, pass_at_ks
from distil_core.lineage.evidence.iteration import Evidence
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.gather import IterationRecord, run_metrics, run_tags, snapshot_tags
from distil_core.lineage.mlflow.owner import OWNER_TAG, owner
from distil_core.lineage.mlflow.params import as_params
from distil_core.lineage.mlflow.store import allow_existing, retry_lost_race
from distil_core.lineage.pages.card import model_card
from distil_core.lineage.pages.chain import Chain, Recorded
from distil_core.lineage.pages.page import campaign_page, model_page, run_page, version_page
from distil_core.policy.card_opening import CARD_FILE
from distil_core.workspace import Workspace, iteration_key

if TYPE_CHECKING:
    from mlflow.client import MlflowClient


def write_iteration(
    client: "MlflowClient", workspace: Workspace, record: IterationRecord, campaign_run_id: str
) -> Recorded:
    """Write the iteration's run, policy and registered version. The run is left RUNNING, or FAILED
    when an error occurred."""
    run = client.create_run(
        record.chain.experiment_id,
        start_time=record.start_ms,
        run_name=record.name,
        tags=run_tags(record)
        | {_internals.PARENT_RUN_TAG: campaign_run_id, OWNER_TAG: owner(workspace)},
    )
    with _failed_on_error(client, run.info.run_id):
        recorded = _write(client, workspace, record, run.info.run_id)
        chain = record.chain.with_recorded(record.this.iteration, recorded)
        _write_pages(client, record, chain, recorded)
    return recorded


def finish_iteration(
    client: "MlflowClient",
    record: IterationRecord,
    recorded: Recorded,
    campaign_run_id: str,
    campaign: Chain,
) -> None:
    """Add the iteration to the campaign's run, and end its own run as FINISHED, as all is written.

    campaign: everything recorded, which may be more than led to this iteration.
    """
    with _failed_on_error(client, recorded.run_id):
        campaign = campaign.with_recorded(record.this.iteration, recorded)
        _write_campaign(client, campaign_run_id, campaign, record.this)
        client.set_terminated(recorded.run_id, "FINISHED", record.end_ms)


@contextmanager
def _failed_on_error(client: "MlflowClient", run_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        # FAILED: a run that stays RUNNING looks alive. The next recording replaces either.
        client.set_terminated(run_id, "FAILED")
        raise


def _write(
    client: "MlflowClient", workspace: Workspace, record: IterationRecord, run_id: str
) -> Recorded:
    from mlflow.entities import LoggedModelInput, LoggedModelOutput, Param

    this, shared = record.this, record.shared
    model_id = shared.model_id if shared else _create_model(client, record, run_id)
    client.log_batch(
        run_id,
        # A policy's own metrics come from its first recording.
        metrics=run_metrics(record, None if shared else model_id),
        params=[Param(name, value) for name, value in as_params(this.settings).items()],
    )
    parents = [LoggedModelInput(record.parent.model_id)] if record.parent else []
    retry_lost_race(partial(client.log_inputs, run_id, datasets=record.datasets, models=parents))
    client.log_outputs(run_id, [LoggedModelOutput(model_id, this.iteration)])
    client.log_artifact(run_id, str(workspace.frozen_params_file(this.iteration)))
    version = (
        shared.model_version if shared else _register(client, workspace, record, run_id, model_id)
    )
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
    """Create the policy as a logged model whose weights are elsewhere; returns its id."""
    this = record.this
    model = client.create_logged_model(
        record.chain.experiment_id,
        name=f"policy-{iteration_key(this.iteration)}",
        source_run_id=run_id,
        model_type="causal-lm",
        tags={
            _internals.EXTERNAL_MODEL_TAG: "true",
            "distil.iteration": str(this.iteration),
            "distil.dvc_path": this.policy.path,
            "distil.dvc_md5": this.policy.md5,
            "distil.lock_digest": record.lock_digest,
        },
    )
    return str(model.model_id)


def _register(
    client: "MlflowClient",
    workspace: Workspace,
    record: IterationRecord,
    run_id: str,
    model_id: str,
) -> int:
    """Make the logged model the newest version of the campaign's registered model. Its source leads
    to DVC, from where MLflow loads it (policy_repository.py)."""
    from distil_core.lineage.mlflow.policy_repository import policy_uri

    this = record.this
    name = record.chain.model_name
    if not client.search_registered_models(f"name = '{name}'"):
        with allow_existing():
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
        name,
        policy_uri(workspace, this.policy.path, this.policy.md5, model_id),
        run_id=run_id,
        tags=tags,
        model_id=model_id,
    )
    return int(version.version)


def _write_pages(
    client: "MlflowClient",
    record: IterationRecord,
    chain: Chain,
    recorded: Recorded,
) -> None:
    """Write everything to be read, and the policy's own files where it is registered here."""
    if not record.shared:
        _store_model(client, record, chain, recorded)
    _describe(client, chain, recorded, record.seconds, not record.shared)


def _describe(
    client: "MlflowClient",
    chain: Chain,
    recorded: Recorded,
    seconds: Mapping[str, float],
    registers: bool,
) -> None:
    """Write the run's note, its whole text beside it, and the description of the version that this
    run registers, if it does. seconds: by stage."""
    url = recorded.prefect_run_url or None
    note = run_page(chain, seconds, url, _internals.max_tag_chars())
    client.set_tag(recorded.run_id, _internals.NOTE_TAG, note)
    client.log_text(recorded.run_id, run_page(chain, seconds, url), "lineage.md")
    if registers:
        description = version_page(chain)
        version = str(recorded.model_version)
        client.update_model_version(chain.model_name, version, description)
        note_tag = {_internals.NOTE_TAG: description}
        client.set_logged_model_tags(recorded.model_id, note_tag)


def add_snapshot(
    client: "MlflowClient", chain: Chain, recorded: Recorded, seconds: Mapping[str, float]
) -> None:
    """Add a snapshot that was taken after the iteration was recorded."""
    tags = {
        "distil.snapshot_ref": recorded.snapshot_ref,
        "distil.snapshot_commit": recorded.snapshot_commit,
    }
    version = str(recorded.model_version)
    registered = client.get_model_version(chain.model_name, version)
    registers = registered.run_id == recorded.run_id
    for name, value in tags.items():
        if registers:
            client.set_model_version_tag(chain.model_name, version, name, value)
    _describe(client, chain, recorded, seconds, registers)
    # Last, so that a run with these tags is complete.
    for name, value in tags.items():
        client.set_tag(recorded.run_id, name, value)


def _store_model(
    client: "MlflowClient", record: IterationRecord, chain: Chain, recorded: Recorded
) -> None:
    """Write the logged model's own files, and the link from it to its version."""
    from mlflow.models import Model

    this = record.this
    with tempfile.TemporaryDirectory() as folder:
        Model(
            run_id=recorded.run_id,
            model_id=recorded.model_id,
            model_uuid=recorded.model_id,
            metadata={
                _internals.EXTERNAL_MODEL_TAG: True,
                "dvc_path": this.policy.path,
                "dvc_md5": this.policy.md5,
            },
        ).save(str(Path(folder, "MLmodel")))
        Path(folder, CARD_FILE).write_text(model_card(chain), encoding="utf-8")
        client.log_model_artifacts(recorded.model_id, folder)
    client.finalize_logged_model(recorded.model_id, "READY")
    _internals.link_to_version(client, recorded.model_id, chain.model_name, recorded.model_version)


def _write_campaign(client: "MlflowClient", run_id: str, chain: Chain, this: Evidence) -> None:
    """Add the iteration to the campaign's run, which describes the whole chain."""
    from mlflow.entities import Metric

    client.log_batch(
        run_id,
        metrics=[
            Metric(name, value, this.finished_at_ms, this.iteration)
            for name, value in this.metrics.items()
        ],
    )
    client.set_tag(run_id, _internals.NOTE_TAG, campaign_page(chain, _internals.max_tag_chars()))
    if pass_at_ks(chain.last.metrics):
        figure = learning_curve_figure({i: e.metrics for i, e in chain.evidence.items()})
        client.log_figure(run_id, figure, "learning_curve.png")
    client.set_terminated(run_id, "FINISHED", chain.last.finished_at_ms)
