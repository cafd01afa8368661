"""A campaign's experiment in MLflow: find or create it, and read all its runs."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.store import allow_existing, artifact_root
from distil_core.lineage.pages.chain import CURVES_VIEW, LEARNING_VIEW
from distil_core.lineage.pages.page import experiment_page
from distil_core.lineage.pages.tables import first_and_last_k

if TYPE_CHECKING:
    from mlflow.client import MlflowClient
    from mlflow.entities import Run


def find_or_create_experiment(client: "MlflowClient", history: History, campaign: str) -> str:
    """The experiment's id. The base's scores become columns of its table.

    Raises `LineageError` where it was deleted, or keeps its files in another place.
    """
    workspace = history.workspace
    root = artifact_root(workspace, client.tracking_uri)
    location = f"{root}/{campaign}" if root else None
    experiment = client.get_experiment_by_name(campaign)
    if experiment is None:
        with allow_existing():
            client.create_experiment(campaign, artifact_location=location)
        experiment = client.get_experiment_by_name(campaign)
        if experiment is None:
            raise LineageError(f"MLflow made the experiment {campaign!r}, but does not show it")
    if experiment.lifecycle_stage != "active":
        raise LineageError(
            f"MLflow experiment {campaign!r} was deleted: restore it with `mlflow "
            f"experiments restore --experiment-id {experiment.experiment_id}`, or choose "
            "another `campaign` in params.yaml"
        )
    if location and experiment.artifact_location != location:
        raise LineageError(
            f"{workspace.mlflow_database.name} was made in another folder and keeps its "
            f"files there ({experiment.artifact_location}): move the workspace back, or move "
            "the database away; a new one is filled from dvc.lock and the files"
        )
    experiment_id = str(experiment.experiment_id)
    for name, value in _pages(history, campaign, experiment_id).items():
        # Those of an earlier version, or of other k, are brought up to date.
        if experiment.tags.get(name) != value:
            client.set_experiment_tag(experiment_id, name, value)
    return experiment_id


def _pages(history: History, campaign: str, experiment_id: str) -> dict[str, str]:
    """The experiment's description and its views, as tags."""
    metrics = history[0].metrics
    return {
        _internals.NOTE_TAG: experiment_page(campaign, experiment_id),
        _internals.shared_view_tag(LEARNING_VIEW): _learning_view(metrics),
        _internals.shared_view_tag(CURVES_VIEW): _curves_view(metrics),
    }


def search_runs(client: "MlflowClient", experiment_id: str, campaign: str) -> Iterator["Run"]:
    """All runs recorded for the campaign, finished or not."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.`distil.campaign` = '{campaign}'", page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _learning_view(metrics: Mapping[str, float]) -> str:
    """The table of iterations with their scores, in the form in which MLflow's "share" stores a
    view."""
    scores = [f"pass_at_{k}" for k in first_and_last_k(metrics)]
    columns = [f"metrics.`{name}`" for name in (*scores, "response_tokens_mean", "seconds/total")]
    view = {
        "searchFilter": "tags.`distil.role` = 'iteration'",
        "orderByKey": f"tags.`{_internals.RUN_NAME_TAG}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [*columns, "attributes.`Models`"],
    }
    return json.dumps(view)


_CHARTS = (
    ("expert_gain",),
    ("truncation_rate", "malformed_rate"),
    ("response_tokens_mean",),
    ("entropy_per_token",),
)


def _curves_view(metrics: Mapping[str, float]) -> str:
    """The charts of the campaigns' runs that say how it goes, in a section of their own; MLflow
    adds those of all other metrics below."""
    scores = tuple(f"pass_at_{k}" for k in first_and_last_k(metrics))
    section = "distil-learning"
    charts = [
        {
            "uuid": f"distil-{number}",
            "type": "LINE",
            "metricSectionId": section,
            "deleted": False,
            "isGenerated": False,
            "metricKey": names[0],
            "selectedMetricKeys": list(names),
            "lineSmoothness": 0,
            "xAxisKey": "step",
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "range": {},
            "selectedXAxisMetricKey": "",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "ignoreOutliers": False,
            "useGlobalXaxisKey": False,
            "useGlobalLineSmoothing": False,
        }
        for number, names in enumerate([scores, *_CHARTS])
        if all(name in metrics for name in names) and names
    ]
    view = {
        "searchFilter": "tags.`distil.role` = 'campaign'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "compareRunCharts": charts,
        "compareRunSections": [
            {
                "uuid": section,
                "name": "Over iterations",
                "display": True,
                "isReordered": False,
                "columns": 2,
            }
        ],
    }
    return json.dumps(view)
