"""`distil preview` of rollouts in turns: the policy's tokens, and what came between them (15 s)."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from distil_core.preview.attempts import Preview, Tried
from distil_core.preview.estimate import estimate
from distil_core.preview.figures import figures_of, likeliest_ids
from distil_core.preview.findings import findings_of
from distil_core.preview.loaded import LoadedModels
from distil_core.preview.page import render_page
from distil_core.preview.policies import find_policy
from distil_core.preview.settings import previewed_params
from distil_core.preview.views import view_of
from distil_core.progress import no_progress
from distil_core.tables.turns import own_ids
from distil_core.workspace import Workspace
from distil_tasks import base, problems

sys.path.append(str(Path(__file__).parent))
from preview_scratch import tiny_settings, write_settings

sys.path.append(str(Path(__file__).parents[1] / "tasks"))
from pipeline_scratch import CHANGES, params

BASE = {"architecture": CHANGES["base"]["architecture"] | {"max_positions": 200}}
ENVIRONMENT = {
    "name": "turn_worlds.counting",
    "max_turns": 3,
    "max_observation_tokens": 6,
    "observation_template": "={observation};",
    "options": {"delay_s": 0.07},
}
CONTEXT = {
    "environment": ENVIRONMENT,
    "expert_template": "{prompt}?{attempt}#{verdict} {tool_output}|",
    "max_context_tokens": 120,
    "wording": {"keep": "all"},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    workspace = Workspace(tmp_path_factory.mktemp("preview"))
    torch.set_num_threads(1)
    for stage in (problems, base):
        stage.body(workspace, params(0, base=BASE), no_progress)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "rollouts"))
        write_settings(workspace, tiny_settings(base=BASE, context=CONTEXT))
        settings = previewed_params(workspace, overrides=[])
        scratch = workspace.root / "scratch"
        scratch.mkdir()
        policy = find_policy(workspace, settings, scratch)
        yield Preview(workspace, settings, policy, LoadedModels(False), scratch, 4).run()


def test_every_number_is_of_a_token_that_the_policy_wrote(found: Tried) -> None:
    assert max(len(one.rollout.turns) for one in found.attempts) > 1
    for one in found.attempts:
        own = own_ids(one.rollout)
        assert len(own) == len(one.rollout.behaviour_logprobs)
        assert len(own) < len(one.rollout.response_ids) or len(one.rollout.turns) < 2
        assert len(likeliest_ids(one)) == len(one.student_ids) == len(own)
    figures = figures_of(found)
    assert figures.num_response_tokens == sum(len(own_ids(one.rollout)) for one in found.attempts)
    answers = [one for one in found.attempts if one.answer is not None]
    assert answers
    for one in answers:
        assert one.answer is not None
        assert len(one.answer_ids) == one.answer.num_tokens


def test_what_the_environment_wrote_is_shown_as_such(found: Tried) -> None:
    figures = figures_of(found)
    view = view_of(found, figures, findings_of(found, figures), estimate(found, figures))
    num_with_turns = 0
    for problem in view.problems:
        attempts = [one for one in found.attempts if one.rollout.problem_id == problem.problem_id]
        for shown, one in zip(problem.attempts, attempts, strict=True):
            answers = [token for token in shown.tokens if token.by_environment]
            num_with_turns += bool(answers)
            assert all(token.wanted is None for token in answers)
            text = "".join(token.text for token in answers)
            earlier = one.rollout.turns[:-1]
            assert text == "".join(f"={turn.observation};" for turn in earlier)
            assert all(f"={turn.observation};" in shown.response for turn in earlier)
            said = [item.text for turn in one.rollout.turns for item in turn.feedback]
            assert [text for _, text in shown.feedback][: len(said)] == said
    assert num_with_turns > 1
    assert 'class="answer"' in render_page(view)


def test_time_spent_waiting_for_the_environment_is_a_cost_of_its_own(found: Tried) -> None:
    waited = found.seconds["environment"]
    assert waited > 0.0
    costs = {cost.part: cost for cost in estimate(found, figures_of(found)).costs}
    params = found.params
    num_sampled = params.sample.num_prompts * params.sample.num_rollouts
    played = num_sampled + found.num_held_out * params.evaluate.num_samples
    generalisation = params.problems.generalisation
    played += generalisation.num_problems * params.evaluate.num_samples if generalisation else 0
    assert costs["environment"].seconds == pytest.approx(played * waited / len(found.attempts))
    assert costs["environment"].how == f"waiting in {played:,} rollouts"
