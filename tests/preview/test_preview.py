"""`distil preview` on a tiny campaign: what it shows is what the stages would make."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distil_core.errors import CheckpointError, ConfigError, DistilError
from distil_core.preview.attempts import Preview, Tried
from distil_core.preview.estimate import num_parameters
from distil_core.preview.figures import Figure, figures_of, likeliest_ids
from distil_core.preview.findings import NOT_BETTER, findings_of
from distil_core.preview.loaded import LoadedModels
from distil_core.preview.page import render_page
from distil_core.preview.policies import find_policy
from distil_core.preview.settings import previewed_params, settings_files
from distil_core.preview.terminal import rendered
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, FEEDBACK, ROLLOUTS
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace
from distil_tasks import consult, sample, tabulate

sys.path.append(str(Path(__file__).parent))
from preview_scratch import (
    files_of,
    make_base,
    params,
    session,
    tiny_settings,
    write_settings,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("preview") / "workspace")
    workspace.root.mkdir()
    make_base(workspace)
    return workspace


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(made.root, tmp_path / "workspace")
    copy = Workspace(tmp_path / "workspace")
    write_settings(copy, tiny_settings())
    return copy


def tried(workspace: Workspace, scratch: Path, **overrides: Any) -> Tried:
    scratch.mkdir(exist_ok=True)
    settings = previewed_params(workspace, overrides=[f"{k}={v}" for k, v in overrides.items()])
    policy = find_policy(workspace, settings, scratch)
    return Preview(workspace, settings, policy, LoadedModels(False), scratch, 3).run()


def test_it_shows_the_very_rows_that_the_stages_write(workspace: Workspace, tmp_path: Path) -> None:
    found = tried(workspace, tmp_path / "scratch")
    for stage in (sample, consult, tabulate):
        stage.body(workspace, params(1), no_progress)
    rollouts = read_rows(workspace.rollouts_file(1), ROLLOUTS)[:9]
    consultations = read_rows(workspace.consultations_file(1), CONSULTATIONS)[:9]
    rows = read_rows(workspace.feedback_dir(1), FEEDBACK)[:9]
    assert len(found.attempts) == 9
    for one, rollout, consultation, row in zip(
        found.attempts, rollouts, consultations, rows, strict=True
    ):
        assert list(one.rollout.response_ids) == list(rollout.response_ids)
        assert list(one.rollout.context_ids) == list(rollout.context_ids)
        assert one.rollout.rollout_id == rollout.rollout_id
        assert (one.consultation.verdict, one.consultation.feedback) == (
            consultation.verdict,
            tuple(consultation.feedback),
        )
        assert one.row is not None
        assert list(one.row.expert_context_ids) == list(row.expert_context_ids)
        assert list(one.row.expert_ids) == list(row.expert_ids)


def test_figures_are_counts_over_the_attempts(workspace: Workspace, tmp_path: Path) -> None:
    found = tried(workspace, tmp_path / "scratch")
    figures = figures_of(found)
    by_problem: dict[str, list[Any]] = {}
    for one in found.attempts:
        by_problem.setdefault(one.rollout.problem_id, []).append(one)
    student = [
        sum(one.consultation.verdict == "correct" for one in each) / len(each)
        for each in by_problem.values()
    ]
    expert = [
        sum(one.answer.is_correct for one in each) / len(each) for each in by_problem.values()
    ]
    assert figures.student.value == pytest.approx(sum(student) / 3)
    assert figures.expert is not None
    assert figures.expert.value == pytest.approx(sum(expert) / 3)
    assert figures.gain is not None
    assert figures.gain.value == pytest.approx((sum(expert) - sum(student)) / 3)
    states = [
        (ours, theirs)
        for one in found.attempts
        for ours, theirs in zip(likeliest_ids(one), one.student_ids, strict=True)
    ]
    assert figures.agreement["all"].num_states == len(states)
    assert figures.agreement["all"].with_likeliest == pytest.approx(
        sum(ours == theirs for ours, theirs in states) / len(states)
    )
    stopped = sum(one.rollout.finish_reason == "stop" for one in found.attempts)
    assert figures.num_truncated == 9 - stopped
    assert sum(figures.ends.values()) == stopped + sum(
        not one.answer.is_truncated for one in found.attempts if one.answer
    )


def test_an_expert_that_is_not_better_is_said_to_hurt(workspace: Workspace, tmp_path: Path) -> None:
    found = tried(workspace, tmp_path / "scratch")
    figures = figures_of(found)

    def said(gain: Figure, student: float = 0.3) -> Any:
        changed = replace(figures, gain=gain, student=Figure(student, 0.2, 0.4))
        return findings_of(found, changed)[0]

    worse = said(Figure(-0.2, -0.3, -0.1))
    assert worse.level == "problem"
    assert worse.text.startswith(NOT_BETTER)
    assert "-0.200 [-0.300, -0.100]" in worse.text
    assert said(Figure(0.0, 0.0, 0.0)).text.startswith(NOT_BETTER)
    texts = [each.text for each in findings_of(found, _with_gain(figures, 0.2, 0.1, 0.3))]
    assert any(text.startswith("the expert is better than the student: ") for text in texts)
    texts = [each.text for each in findings_of(found, _with_gain(figures, 0.2, -0.1, 0.5))]
    assert any("not shown to be better" in text for text in texts)


def _with_gain(figures: Any, *ends: float) -> Any:
    return replace(figures, gain=Figure(*ends))


def test_a_template_that_takes_no_feedback_is_a_problem(
    workspace: Workspace, tmp_path: Path
) -> None:
    template = tmp_path / "template.txt"
    template.write_text("{prompt}?{attempt}|\n")
    view = session(workspace, tmp_path / "scratch", template_file=template).try_once()
    [finding] = [each for each in view.findings if each.level == "problem"]
    assert finding.text.endswith("name it there in braces; its fields are {attempt}, {prompt}")
    assert all(one.silent for problem in view.problems for one in problem.attempts)


def test_nothing_is_written_into_the_campaign(workspace: Workspace, tmp_path: Path) -> None:
    before = files_of(workspace)
    view = session(workspace, tmp_path / "scratch").try_once()
    assert files_of(workspace) == before
    page = render_page(view)
    assert not re.search(r"<script|<link|src=|https?://", page)
    assert all(problem.prompt in page for problem in view.problems)
    assert rendered(view, 4) is not None


def test_a_changed_file_is_tried_again_without_loading(
    workspace: Workspace, tmp_path: Path
) -> None:
    trying = session(workspace, tmp_path / "scratch", keeps=True)
    views = trying.watch(no_progress)
    first = next(views)
    loads = trying.models.num_loads
    assert loads == 2
    template = "{prompt}?{attempt}#{execution_trace}|"
    write_settings(workspace, tiny_settings(context={"expert_template": template}))
    second = next(views)
    assert trying.models.num_loads == loads
    texts = [view.problems[0].telling.expert.text for view in (first, second)]
    assert texts[0] != texts[1]
    workspace.params_file.write_text("campaign: [")
    assert isinstance(next(views), DistilError)
    write_settings(workspace, tiny_settings())
    again = next(views)
    assert again.problems[0].telling.expert.text == texts[0]
    assert trying.models.num_loads == loads


def test_a_base_from_scratch_must_be_made_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_settings(workspace, tiny_settings())
    with pytest.raises(ConfigError, match=r"`distil restart`, then `dvc repro base`"):
        session(workspace, tmp_path / "scratch").try_once()


def test_a_checkpoint_from_outside_is_seen_before_any_restart(
    made: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "new")
    workspace.root.mkdir()
    settings = tiny_settings()
    settings["base"] = {"kind": "pretrained", "path_or_id": str(made.policy_dir(0))}
    write_settings(workspace, settings)
    view = session(workspace, tmp_path / "scratch").try_once()
    assert view.policy == f"the base {made.policy_dir(0)}"
    assert view.estimate.num_parameters == num_parameters(made.policy_dir(0))
    assert not (workspace.root / "data").exists()
    # The weights are where they were; only what describes them is copied.
    assert (tmp_path / "scratch" / "base" / "model.safetensors").is_symlink()
    settings["base"]["path_or_id"] = str(tmp_path)
    write_settings(workspace, settings)
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        session(workspace, tmp_path / "scratch").try_once()


def test_which_policy_it_is_of(workspace: Workspace, tmp_path: Path) -> None:
    settings = previewed_params(workspace)
    assert find_policy(workspace, settings, tmp_path, "latest").iteration == 1
    shutil.copytree(workspace.policy_dir(0), workspace.handover_dir(2))
    latest = find_policy(workspace, settings, tmp_path, "latest")
    assert (latest.policy_dir, latest.iteration) == (workspace.handover_dir(2), 3)
    assert latest.expert_dir(settings) == workspace.policy_dir(0)
    snapshot = previewed_params(workspace, overrides=["tabulate.expert.options.weights=snapshot"])
    assert latest.expert_dir(snapshot) == workspace.handover_dir(2)
    with pytest.raises(ConfigError, match="run iteration 7 first"):
        find_policy(workspace, settings, tmp_path, "7")
    with pytest.raises(ConfigError, match="did you mean latest"):
        find_policy(workspace, settings, tmp_path, "lastest")
    folder = find_policy(workspace, settings, tmp_path, str(workspace.policy_dir(0)))
    assert folder.policy_dir == folder.base_dir == workspace.policy_dir(0)


def test_settings_of_a_template_file(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "context.yaml"
    file.write_text('{student_template: "{prompt}:", expert_template: "{prompt}{attempt}:"}')
    context = previewed_params(workspace, template_file=file).context
    assert (context.student_template, context.expert_template) == (
        "{prompt}:",
        "{prompt}{attempt}:",
    )
    file.write_text("{expert_templat: x}")
    with pytest.raises(ConfigError, match="did you mean expert_template"):
        previewed_params(workspace, template_file=file)
    assert settings_files(workspace, None, file) == [workspace.params_file, file]
    extending = workspace.root / "mine.yaml"
    extending.write_text("extends: ./params.yaml\n")
    assert settings_files(workspace, extending, None) == [extending, workspace.root / "params.yaml"]
