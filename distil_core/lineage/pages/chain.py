"""The iterations that a page describes, and where MLflow shows them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from distil_core.lineage.evidence.iteration import Evidence
from distil_core.workspace import iteration_key

LEARNING_VIEW = "learning"
"""Name of the shared view of the runs' table that is saved with the experiment."""

CURVES_VIEW = "curves"
"""Name of the shared view of the campaigns' charts, those that matter first."""

# MLflow's pages open for GenAI traces unless told that there are runs to see.
_TRAINING_UI = "workflowType=machine_learning"


@dataclass(frozen=True)
class Recorded:
    """An iteration's place in MLflow. snapshot_ref, snapshot_commit, prefect_run_url: '' where
    there is none."""

    run_id: str
    model_id: str
    model_version: int
    snapshot_ref: str = ""
    snapshot_commit: str = ""
    prefect_run_url: str = ""

    @property
    def snapshot(self) -> str:
        """The snapshot's name on a page; '' where there is none."""
        return f"`{self.snapshot_ref}` `{self.snapshot_commit[:10]}`" if self.snapshot_ref else ""


@dataclass(frozen=True)
class Chain:
    """The iterations up to the one that a page is about, and where those recorded so far are."""

    model_name: str
    experiment_id: str
    evidence: Mapping[int, Evidence]
    recorded: Mapping[int, Recorded]

    @property
    def last(self) -> Evidence:
        """The iteration the page is about."""
        return self.evidence[max(self.evidence)]

    def with_recorded(self, iteration: int, recorded: Recorded) -> "Chain":
        """This chain, with the iteration's place in MLflow."""
        return replace(self, recorded={**self.recorded, iteration: recorded})

    def policy(self, iteration: int) -> str:
        """'policy 002', as a link to its registered version where there is one."""
        name = f"policy {iteration_key(iteration)}"
        if iteration not in self.recorded:
            return name
        version = self.recorded[iteration].model_version
        return f"[{name}]({version_url(self.model_name, version)})"

    def run(self, iteration: int) -> str:
        """'iteration 2', as a link to its run where there is one."""
        name = f"iteration {iteration}" + (" (base)" if iteration == 0 else "")
        if iteration not in self.recorded:
            return name
        return f"[{name}]({run_url(self.experiment_id, self.recorded[iteration].run_id)})"


def experiment_url(experiment_id: str) -> str:
    """MLflow's page of a campaign: its iterations and their scores as one table."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={LEARNING_VIEW}&{_TRAINING_UI}"


def curves_url(experiment_id: str) -> str:
    """MLflow's charts of a campaign over its iterations."""
    view = f"viewStateShareKey={CURVES_VIEW}&compareRunsMode=CHART"
    return f"#/experiments/{experiment_id}/runs?{view}&{_TRAINING_UI}"


def run_url(experiment_id: str, run_id: str) -> str:
    """MLflow's page of a run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_TRAINING_UI}"


def artifact_url(experiment_id: str, run_id: str, name: str) -> str:
    """MLflow's page of a file of a run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{name}?{_TRAINING_UI}"


def version_url(model_name: str, version: int) -> str:
    """MLflow's page of a registered version."""
    return f"#/models/{model_name}/versions/{version}"


def model_url(experiment_id: str, model_id: str) -> str:
    """MLflow's page of a logged model."""
    return f"#/experiments/{experiment_id}/models/{model_id}?{_TRAINING_UI}"
