"""A policy's own rollouts in an environment of the verifiers library (20 s)."""

import importlib.metadata
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from distil_core.config.models import ContextParams, EnvironmentParams
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.engines.transformers import TransformersEngine
from distil_core.environments import build_environment
from distil_core.problems import PROBLEM_SOURCES
from distil_core.progress import no_progress
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.seeds import derive_seed

pytest.importorskip("verifiers.v1", reason="the extra verifiers is not installed")

END = 1
TASKS = {
    "taskset": "lab_guessing_game",
    "versions": {"verifiers": importlib.metadata.version("verifiers")},
}


@pytest.fixture(autouse=True)
def _lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "environments"))


def test_turns_and_rewards_are_those_of_the_environment(ending_model: Any, tokenizer: Any) -> None:
    model = ending_model(7, 4)
    params = EnvironmentParams(
        name="verifiers",
        options={**TASKS, "reward_range": [-1.0, 1.0]},
        max_turns=4,
        max_observation_tokens=16,
    )
    context = ContextParams(
        student_template="{prompt}|",
        expert_template="{prompt}{attempt}{tool_output}|",
        max_context_tokens=30,
        environment=params,
    )
    source = PROBLEM_SOURCES.build("verifiers", TASKS)
    problems = [one for one in islice(source.problems("train", 0), 6) for _ in range(4)]
    requests = [
        SampleRequest([10 + place // 4, 20, 30], 900 + place) for place in range(len(problems))
    ]
    settings = SamplingSettings(max_new_tokens=8, temperature=1.0, top_p=1.0)
    engine = TransformersEngine(model, [END], 7)
    sampler = RolloutSampler(engine, tokenizer, context, 2)
    rollouts = sampler.sample(problems, requests, settings, no_progress)
    assert [one.error for one in rollouts] == [None] * len(problems)
    assert any(len(one.turns) > 1 for one in rollouts)
    last = [one.turns[-1].step for one in rollouts]
    assert any(step is not None and step.verdict == "wrong" for step in last)
    for problem, request, rollout in zip(problems, requests, rollouts, strict=True):
        played = [turn for turn in rollout.turns if turn.step is not None]
        with closing(build_environment(params)) as environment:
            environment.start(problem, derive_seed(request.seed, "environment"))
            assert [environment.step(turn.action) for turn in played] == [
                turn.step for turn in played
            ]
