"""Prefect flow `distil-campaign`: the campaign's iterations in order, each a `distil-iteration`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, tags, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from distil_core.campaign.iterations import existing_iterations, extend
from distil_core.campaign.load import load_iteration_params
from distil_core.errors import ConfigError, DistilError, GateError
from distil_core.workspace import Workspace
from distil_flows.failures import failed_state, result_of
from distil_flows.iteration import IterationSummary, distil_iteration, stage_display
from distil_flows.liveness import alive, mark_dead_runs
from distil_flows.ownership import (
    require_own_workspace,
    run_tags,
    tag_current_run,
    workspace_label,
)
from distil_flows.prefect_steps import why_no_workspace
from distil_flows.report import report_page
from distil_flows.stages import stage_versions


@dataclass(frozen=True)
class CampaignSummary:
    """What one run of the campaign did, by iteration from 0, the base policy."""

    iterations: tuple[IterationSummary, ...]


@flow(name="distil-campaign", flow_run_name="campaign", retries=0, persist_result=False)
def distil_campaign(
    num_iterations: int | None = None, stage_timeout_s: float | None = None
) -> CampaignSummary | State[Any]:
    """Run whatever is not up to date of the campaign, iteration by iteration.

    Args:
        num_iterations: How many; if the campaign has fewer, it is extended with the settings of
            params.yaml. None means those it has.
        stage_timeout_s: Seconds after which a stage is stopped and the run fails; None means that
            stages take as long as they need.
    """
    lost = why_no_workspace()
    if lost:
        return failed_state(ConfigError(lost))
    workspace = Workspace(Path.cwd())
    mark_dead_runs(workspace)
    with alive(workspace, str(flow_run.id)):
        try:
            require_own_workspace(workspace, flow_run.tags)
            last = _last_iteration(workspace, num_iterations)
            tag_current_run(workspace)
            with tags(*run_tags(workspace)):
                summaries = tuple(
                    _run_iteration(number, stage_timeout_s) for number in range(last + 1)
                )
                _write_report(workspace)
            return CampaignSummary(summaries)
        except GateError as error:
            # The campaign ended as its settings ask for; the report shows why.
            _write_report(workspace)
            return failed_state(error)
        except DistilError as error:
            return failed_state(error)


def _write_report(workspace: Workspace) -> None:
    result_of(_report_task(workspace, return_state=True))


@task(name="report", cache_policy=NO_CACHE, retries=0, persist_result=False)
def _report_task(workspace: Workspace) -> Path | State[Any]:
    from distil_core.report.write import write_report

    try:
        with stage_display("report") as progress:
            written = write_report(workspace, progress)
    except DistilError as error:
        return failed_state(error)
    campaign = load_iteration_params(workspace, 0, with_components=False).campaign
    create_markdown_artifact(
        report_page(workspace, campaign, written),
        key=f"{campaign}-{workspace_label(workspace)}-report",
        description=f"The report of {campaign} in {workspace.root}",
    )
    return written.file


def _last_iteration(workspace: Workspace, num_iterations: int | None) -> int:
    existing = existing_iterations(workspace)
    if not existing:
        raise ConfigError(
            "the campaign has no iterations yet: `distil restart` freezes params.yaml as its "
            "first ones"
        )
    if num_iterations is None:
        return existing[-1]
    if num_iterations < 1:
        raise ConfigError(f"num_iterations must be at least 1, found {num_iterations}")
    if num_iterations > existing[-1]:
        extend(workspace, stage_versions(), num_iterations - existing[-1])
    return num_iterations


def _run_iteration(iteration: int, stage_timeout_s: float | None) -> IterationSummary:
    state = distil_iteration(iteration, stage_timeout_s, return_state=True)
    summary: IterationSummary = result_of(state)
    return summary
