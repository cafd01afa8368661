"""Prefect flow `distil-iteration`: bring one iteration up to date, stage by stage, and record it.

DVC decides what must run, so nothing is cached here. A stage whose engine, sandbox or endpoint
failed is retried (flows/failures.py); one that failed on its settings or data would fail again.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, tags, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from distil_core.campaign.better_expert import evaluated_expert, expert_alarm
from distil_core.campaign.iterations import existing_iterations, extend
from distil_core.campaign.load import load_iteration_params
from distil_core.campaign.stage_code import other_code
from distil_core.checks.kept import all_checks
from distil_core.checks.limits import findings, findings_of_stage
from distil_core.errors import ConfigError, DistilError
from distil_core.evaluation.decision import read_decision
from distil_core.lineage.dvc.code import prepare_code
from distil_core.lineage.dvc.config import has_remote
from distil_core.lineage.dvc.remote import push_iteration
from distil_core.lineage.dvc.stage import StageOutcome
from distil_core.lineage.mlflow.address import require_answering
from distil_core.lineage.mlflow.record import RecordedIteration, record_iteration
from distil_core.lineage.snapshot.take import Snapshot, ensure_snapshot
from distil_core.pipeline import stage_addresses
from distil_core.progress import ProgressCallback
from distil_core.workspace import Workspace, iteration_key
from distil_flows import _internals
from distil_flows.display import Periodic, current_display
from distil_flows.failures import RETRIES, RETRY_DELAYS_S, failed_state, is_retried, result_of
from distil_flows.liveness import alive, mark_dead_runs
from distil_flows.ownership import (
    require_own_workspace,
    run_tags,
    tag_current_run,
    workspace_label,
)
from distil_flows.prefect_steps import why_no_workspace
from distil_flows.report import check_rows, iteration_page, read_metrics, stage_rows
from distil_flows.stages import is_finished, iterations_to_run, stage_spec, stage_versions


class StageTimeoutError(DistilError):
    """A stage took longer than allowed."""


@dataclass(frozen=True)
class IterationSummary:
    """What one flow run did. stages: in order, beginning with those of earlier unfinished
    iterations."""

    iteration: int
    stages: tuple[StageOutcome, ...]
    metrics: dict[str, float]
    mlflow_run_id: str


@flow(
    name="distil-iteration",
    flow_run_name=lambda: _flow_run_name(flow_run.parameters.get("iteration")),
    retries=0,
    persist_result=False,
)
def distil_iteration(
    iteration: int | None = None, stage_timeout_s: float | None = None
) -> IterationSummary | State[Any]:
    """Run what is not up to date of one iteration, and of those before it, and record it.

    Args:
        iteration: Its number. None means the next one: the lowest that is not finished, or a
            new one with the settings of params.yaml when all are.
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
            return _run_iteration(workspace, iteration, stage_timeout_s)
        except DistilError as error:
            return failed_state(error)


def next_iteration(workspace: Workspace) -> int:
    """The lowest iteration with a policy to train that is not finished; if all are, a new one."""
    existing = existing_iterations(workspace)
    # A finished iteration builds on finished ones, so bisection finds the first unfinished one.
    first = bisect_left(existing, True, key=lambda number: not is_finished(workspace, number))
    if first < len(existing):
        return max(first, min(1, existing[-1]))
    return extend(workspace, stage_versions())[0]


def _run_iteration(
    workspace: Workspace, wanted: int | None, stage_timeout_s: float | None
) -> IterationSummary:
    require_answering(workspace)
    prepare_code(workspace)
    iteration = _resolve(workspace, wanted)
    tag_current_run(workspace)
    with tags(*run_tags(workspace)):
        return _bring_up_to_date(workspace, iteration, stage_timeout_s)


def _bring_up_to_date(
    workspace: Workspace, iteration: int, stage_timeout_s: float | None
) -> IterationSummary:
    logger = get_run_logger()
    iterations = iterations_to_run(workspace, iteration)
    if iterations[0] > 0:
        logger.info("all before iteration %d is up to date", iterations[0])
    outcomes = [
        _run_stage(workspace, address, number, stage_timeout_s)
        for number in iterations
        for address in stage_addresses(number)
    ]
    for line in other_code(workspace, iterations, stage_versions()):
        logger.warning(line)
    result_of(_snapshot_task(workspace, iteration, return_state=True))
    recorded: RecordedIteration = result_of(_record_task(workspace, iteration, return_state=True))
    metrics = read_metrics(workspace, iteration)
    _publish(workspace, iteration, outcomes, metrics)
    if has_remote(workspace):
        _push(workspace, iteration, stage_timeout_s)
    return IterationSummary(iteration, tuple(outcomes), metrics, recorded.run_id)


def _resolve(workspace: Workspace, wanted: int | None) -> int:
    if wanted is None:
        iteration = next_iteration(workspace)
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), name=_flow_run_name(iteration))
        return iteration
    existing = existing_iterations(workspace)
    if wanted not in existing:
        raise ConfigError(
            f"iteration {wanted} does not exist: the campaign has "
            f"{f'0 to {existing[-1]}' if existing else 'none yet'}. `distil extend` adds the next; "
            "a run without `iteration` takes the next one by itself."
        )
    return wanted


def _run_stage(
    workspace: Workspace, address: str, iteration: int, timeout_s: float | None
) -> StageOutcome:
    name = address.partition("@")[0]
    run = _stage_task.with_options(name=name, task_run_name=address, timeout_seconds=timeout_s)
    state = run(workspace, address, name, iteration, return_state=True)
    if state.name == "TimedOut" and timeout_s is not None:
        raise StageTimeoutError(
            f"{address} was stopped after {timeout_s:.0f} s and recorded nothing; give it longer "
            "with the flow's parameter stage_timeout_s"
        )
    outcome: StageOutcome = result_of(state)
    display = current_display()
    if display:
        display.stage_done(address, outcome.status, outcome.seconds)
    get_run_logger().info("%s %s in %.1f s", address, outcome.status, outcome.seconds)
    if outcome.status != "unchanged":
        _say_findings(workspace, name, iteration)
    return outcome


def _say_findings(workspace: Workspace, name: str, iteration: int) -> None:
    """What the checks of the tables that the stage has made found beyond limits."""
    params = load_iteration_params(workspace, iteration, with_components=False)
    display = current_display()
    found = findings_of_stage(workspace, stage_spec(name).stage, params)
    said = [(one.line(), one.level != "warn") for one in found if one.level != "ok"]
    if alarm := expert_alarm(workspace, stage_spec(name).stage, params):
        said.append((alarm, True))
    for line, is_alarm in said:
        (get_run_logger().error if is_alarm else get_run_logger().warning)("%s", line)
        if display:
            display.line(f"{'':<14} {line}", style="bold red" if is_alarm else None)


@task(
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=is_retried,
    persist_result=False,
)
def _stage_task(
    workspace: Workspace, address: str, name: str, iteration: int
) -> StageOutcome | State[Any]:
    from distil_tasks.stage import run

    try:
        with stage_display(address) as progress:
            return run(stage_spec(name), workspace, iteration, progress)
    except DistilError as error:
        return failed_state(error)


@task(
    name="record",
    task_run_name="record@{iteration:03d}",
    cache_policy=NO_CACHE,
    retries=0,
    persist_result=False,
)
def _record_task(workspace: Workspace, iteration: int) -> RecordedIteration | State[Any]:
    page = _internals.flow_run_page(flow_run.id)
    try:
        with stage_display(f"record@{iteration_key(iteration)}"):
            return record_iteration(workspace, iteration, page)
    except DistilError as error:
        return failed_state(error)


@task(
    name="snapshot",
    task_run_name="snapshot@{iteration:03d}",
    cache_policy=NO_CACHE,
    retries=0,
    persist_result=False,
)
def _snapshot_task(workspace: Workspace, iteration: int) -> Snapshot | State[Any]:
    try:
        return ensure_snapshot(workspace, iteration)
    except DistilError as error:
        return failed_state(error)


def _push(workspace: Workspace, iteration: int, timeout_s: float | None) -> None:
    """Push an iteration's artifacts. A remote that is down must not end a campaign: the task fails
    visibly, and the next iteration's push includes what is missing."""
    address = f"push@{iteration_key(iteration)}"
    run = _push_task.with_options(task_run_name=address, timeout_seconds=timeout_s)
    state = run(workspace, iteration, return_state=True)
    if state.is_completed():
        return
    text = f"{address} FAILED: {state.message}"
    get_run_logger().warning(text)
    display = current_display()
    if display:
        display.line(text)


@task(name="push", cache_policy=NO_CACHE, retries=0, persist_result=False)
def _push_task(workspace: Workspace, iteration: int) -> int | State[Any]:
    try:
        return push_iteration(workspace, iteration)
    except DistilError as error:
        return failed_state(error)


@contextmanager
def stage_display(address: str) -> Iterator[ProgressCallback]:
    """A callback for progress, shown on a campaign's terminal or else now and then in the run's
    log."""
    display = current_display()
    if display is None:
        logger = get_run_logger()
        yield Periodic(lambda text: logger.info("%s: %s", address, text))
    else:
        with display.stage(address) as progress:
            yield progress


def _publish(
    workspace: Workspace,
    iteration: int,
    outcomes: list[StageOutcome],
    metrics: dict[str, float],
) -> None:
    """Publish artifacts of the flow run on Prefect's pages. Their keys name the campaign and the
    workspace, since one server may have several, also of the same campaign's name."""
    decision = read_decision(workspace, iteration) if iteration else None
    parent_metrics = read_metrics(workspace, decision.parent) if decision else {}
    params = load_iteration_params(workspace, iteration, with_components=False)
    campaign = params.campaign
    found = findings(all_checks(workspace, iteration), params.checks)
    key = f"{campaign}-{workspace_label(workspace)}-iteration-{iteration_key(iteration)}"
    gain = evaluated_expert(workspace, params)
    create_markdown_artifact(
        iteration_page(iteration, outcomes, metrics, parent_metrics, decision, found, gain),
        key=key,
        description=f"Iteration {iteration} of {campaign} in {workspace.root}",
    )
    create_table_artifact(
        stage_rows(outcomes), key=f"{key}-stages", description="What became of each stage"
    )
    create_table_artifact(
        check_rows(found), key=f"{key}-checks", description="What each table's checks found"
    )


def _flow_run_name(iteration: int | None) -> str:
    return "next iteration" if iteration is None else f"iteration {iteration}"
