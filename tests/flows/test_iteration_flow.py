"""An iteration's flow, called in this process on a finished campaign and a real Prefect server."""

import time
from typing import TYPE_CHECKING, Any

import front_door_scratch as scratch
import pytest
import yaml

from distil_core.campaign.iterations import extend, restart
from distil_core.config.models import IterationParams
from distil_core.errors import (
    ConfigError,
    DataError,
    DistilError,
    EngineError,
    EngineRefusedError,
    ExpertError,
    ExpertUnavailableError,
    SandboxError,
)
from distil_core.lineage.mlflow.record import record_all
from distil_core.progress import ProgressCallback
from distil_core.workspace import Workspace
from distil_flows.iteration import next_iteration
from distil_flows.stages import stage_versions
from distil_tasks.stage import StageBody, StageSpec

if TYPE_CHECKING:
    from prefect.states import State


def test_the_next_iteration_is_the_first_that_is_not_finished(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.root)
    extend(finished, stage_versions(), 5)
    assert next_iteration(finished) == 2
    lock = finished.root / "dvc.lock"
    recorded = lock.read_text()
    for stage, first in (("gate@001", 1), ("evaluate@000", 1), ("problems", 1)):
        contents = yaml.safe_load(recorded)
        del contents["stages"][stage]
        lock.write_text(yaml.safe_dump(contents, sort_keys=False))
        assert next_iteration(finished) == first


def test_the_next_iteration_is_a_new_one_when_all_are_finished(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.root)
    assert next_iteration(finished) == 2
    assert finished.frozen_params_file(2).exists()


def test_flow_reports_every_stage_unchanged(here: Workspace) -> None:
    from distil_flows.iteration import distil_iteration

    summary = distil_iteration(1)
    assert [outcome.status for outcome in summary.stages] == ["unchanged"] * 6
    assert summary.metrics["iteration"] == 1
    assert not list((here.scratch_dir / "flow-runs").iterdir())


def test_flow_after_a_restart_and_with_a_run_that_was_interrupted(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distil_flows.iteration import distil_iteration

    record_all(here)
    params = yaml.safe_load(here.params_file.read_text())
    former = here.params_file.read_text()
    params["tabulate"]["rows_per_shard"] = 7
    here.params_file.write_text(yaml.safe_dump(params))
    restart(here, stage_versions())

    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        raise DataError("interrupted")

    with monkeypatch.context() as patch:
        assert _run_next_with(body, patch).is_failed()
    assert not here.feedback_dir(1).exists()
    # Back to what dvc.lock still has; the feedback comes out of DVC's run cache.
    here.params_file.write_text(former)
    restart(here, stage_versions())
    assert not any(recorded.created for recorded in record_all(here))
    statuses = {stage.address: stage.status for stage in distil_iteration(1).stages}
    assert statuses.pop("tabulate@001") == "restored"
    assert set(statuses.values()) == {"unchanged"}
    here.params_file.write_text(yaml.safe_dump(params))
    restart(here, stage_versions())
    statuses = {stage.address: stage.status for stage in distil_iteration(1).stages}
    assert (statuses["consult@001"], statuses["tabulate@001"]) == ("unchanged", "ran")
    assert not any(recorded.created for recorded in record_all(here))


def test_flow_refuses_an_iteration_that_does_not_exist(here: Workspace) -> None:
    from distil_flows.iteration import distil_iteration

    state = distil_iteration(9, return_state=True)
    assert state.is_failed()
    assert state.message
    assert state.message.startswith("iteration 9 does not exist: the campaign has 0 to 1.")


def test_a_failed_stage_fails_the_run_with_its_message(
    here: Workspace, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        raise DataError("the prompts are gone: bring them back")

    state = _run_next_with(body, monkeypatch)
    assert state.is_failed()
    assert state.message == "the prompts are gone: bring them back"
    runs = [run for run in scratch.everything(server, "task_runs") if run["name"] == "sample@002"]
    assert runs[0]["state_type"] == "FAILED"
    assert runs[0]["run_count"] == 1


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (EngineError("vLLM is gone"), 3),
        (SandboxError("the zygote is gone"), 3),
        (ExpertUnavailableError("no answer in 6 attempts"), 3),
        (EngineRefusedError("top_k 99 exceeds max_logprobs 64"), 1),
        (ExpertError("refused: HTTP 401"), 1),
        (ConfigError("no such setting"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_a_stage_works_with_is_tried_again_its_settings_are_not(
    here: Workspace, server: str, monkeypatch: pytest.MonkeyPatch, error: DistilError, attempts: int
) -> None:
    import distil_flows.iteration

    called = []

    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        called.append(1)
        raise error

    task = distil_flows.iteration._stage_task.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(distil_flows.iteration, "_stage_task", task)
    state = _run_next_with(body, monkeypatch)
    assert state.is_failed()
    assert state.message == str(error)
    assert len(called) == attempts
    runs = scratch.everything(server, "task_runs")
    newest = max(
        (run for run in runs if run["name"] == "sample@002"), key=lambda run: run["created"]
    )
    assert newest["run_count"] == attempts


def test_a_stage_that_works_at_the_second_attempt_is_recorded(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distil_flows.iteration
    from distil_tasks.sample import STAGE

    called = []

    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        called.append(1)
        if len(called) == 1:
            raise EngineError("vLLM is gone")
        if len(called) == 3:
            raise ConfigError("the next stage: far enough")
        STAGE.body(workspace, params, progress)

    task = distil_flows.iteration._stage_task.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(distil_flows.iteration, "_stage_task", task)
    state = _run_next_with(body, monkeypatch)
    assert state.message == "the next stage: far enough"
    assert len(called) == 3
    assert here.rollouts_file(2).exists()


def test_runs_carry_their_workspace_and_campaign(here: Workspace, server: str) -> None:
    from distil_flows.iteration import distil_iteration
    from distil_flows.ownership import workspace_tag

    distil_iteration(1)
    tags = {workspace_tag(here), "campaign:chain-arithmetic"}
    runs = [
        run for run in scratch.everything(server, "flow_runs") if workspace_tag(here) in run["tags"]
    ]
    assert [set(run["tags"]) for run in runs] == [tags]
    parts = [
        run
        for run in scratch.everything(server, "task_runs")
        if run["flow_run_id"] == runs[0]["id"]
    ]
    assert len(parts) == 8
    assert all(set(part["tags"]) >= tags for part in parts)


def test_a_run_of_another_workspace_or_campaign_is_refused(here: Workspace) -> None:
    from prefect import tags

    from distil_flows.campaign import distil_campaign
    from distil_flows.iteration import distil_iteration

    for tag in ("workspace:other-01234567-89ab", "campaign:tool-calls"):
        for flow in (distil_iteration, distil_campaign):
            with tags(tag):
                state = flow(return_state=True)
            assert state.is_failed()
            assert state.message
            assert f"was asked for by {tag}" in state.message
            assert str(here.root) in state.message
    # A template whose variable was not set when it was deployed names nobody.
    with tags("campaign:{{ $DISTIL_CAMPAIGN }}"):
        assert distil_iteration(1, return_state=True).is_completed()


def test_a_stage_that_takes_too_long_is_stopped(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        for _ in range(300):
            time.sleep(0.1)

    state = _run_next_with(body, monkeypatch, stage_timeout_s=1)
    assert state.is_failed()
    assert state.message
    assert "sample@002 was stopped after 1 s" in state.message
    assert not here.rollouts_file(2).exists()


def _run_next_with(
    body: StageBody, monkeypatch: pytest.MonkeyPatch, **parameters: float
) -> "State[Any]":
    """Run the next iteration with another body of its first stage."""
    import distil_flows.iteration

    monkeypatch.setattr(distil_flows.iteration, "stage_spec", lambda name: StageSpec(name, 1, body))
    return distil_flows.iteration.distil_iteration(return_state=True, **parameters)
