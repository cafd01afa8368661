"""What a policy is asked by a task of others, and how many questions share the engine."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from export_scratch import params

from distil_core.config.models import ContextParams
from distil_core.engines.base import SampledResponse, SampleRequest, SamplingSettings
from distil_core.engines.transformers import TransformersEngine
from distil_core.errors import EngineRefusedError, ExportError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.outside_evaluation.batches import BatchedSampling
from distil_core.outside_evaluation.policy import EvaluatedPolicy
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.progress import ProgressCallback, no_progress

CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CONTEXT = {"student_template": "Q: {prompt}!", "chat": True, "max_context_tokens": 60}
SETTINGS = SamplingSettings(max_new_tokens=5, temperature=1.0, top_p=1.0)


@pytest.fixture
def chat_policy(policy_dir: Path, tmp_path: Path) -> EvaluatedPolicy:
    folder = tmp_path / "policy"
    shutil.copytree(policy_dir, folder)
    (folder / "chat_template.jinja").write_text(CHAT)
    usual = params(1)
    context = usual.context.model_copy(update=CONTEXT)
    return EvaluatedPolicy(folder, usual.model_copy(update={"context": context}))


def test_a_problem_alone_is_the_campaigns_own_context(
    chat_policy: EvaluatedPolicy, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tmp_path / "policy")
    ours = ContextRenderer(chat_policy.params.context, tokenizer).student("1{+}2", "p").token_ids
    assert chat_policy.context([{"role": "user", "content": "1{+}2"}]) == ours


def test_a_conversation_goes_through_the_models_chat_template(
    chat_policy: EvaluatedPolicy, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tmp_path / "policy")
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "1{+}2"},
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "4"},
    ]
    text = "<system>s</><user>Q: 1{+}2!</><assistant>3</><user>Q: 4!</><assistant>"
    assert chat_policy.context(turns[:3]) == tokenizer.encode(
        "<system>s</><user>Q: 1{+}2!</><assistant>3</><assistant>", add_special_tokens=False
    )
    with pytest.raises(ExportError, match=f"has {len(text)} tokens.*allows 60"):
        chat_policy.context(turns)


def test_a_policy_of_several_turns_is_asked_as_it_was_trained(
    chat_policy: EvaluatedPolicy, tmp_path: Path
) -> None:
    system = {"role": "system", "content": "S"}
    turns = [system, {"role": "user", "content": "Q: {prompt}!"}]
    changes = {"student_template": turns, "max_context_tokens": 90}
    context = ContextParams.model_validate(
        chat_policy.params.context.model_dump(mode="json") | changes
    )
    settings = chat_policy.params.model_copy(update={"context": context})
    policy = EvaluatedPolicy(tmp_path / "policy", settings)
    tokenizer = load_tokenizer(tmp_path / "policy")

    def asked(*roles: str) -> list[int]:
        return policy.context([{"role": role, "content": role[0]} for role in roles])

    for roles, text in (
        (["user"], "<system>S</><user>Q: u!</><assistant>"),
        (
            ["user", "assistant", "user"],
            "<system>S</><user>u</><assistant>a</><user>Q: u!</><assistant>",
        ),
    ):
        assert asked(*roles) == tokenizer.encode(text, add_special_tokens=False)
    with pytest.raises(ExportError, match="last message is of 'assistant'"):
        asked("user", "assistant")
    with pytest.raises(ExportError, match="a message of 'tool'"):
        asked("user", "tool", "user")


class _Counting(TransformersEngine):
    calls: int = 0

    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        progress: ProgressCallback,
    ) -> list[SampledResponse]:
        self.calls += 1
        return super().sample(requests, settings, progress)


async def _ask_all(
    sampling: BatchedSampling, requests: Sequence[SampleRequest]
) -> list[SampledResponse | Exception]:
    found: list[Any] = [None] * len(requests)

    async def ask(index: int) -> None:
        try:
            found[index] = await sampling.sample(requests[index], SETTINGS)
        except EngineRefusedError as error:
            found[index] = error

    async with anyio.create_task_group() as group:
        for index in range(len(requests)):
            group.start_soon(ask, index)
    return found


def test_those_who_ask_at_once_share_calls_and_get_their_own_answers(new_model: Any) -> None:
    engine = _Counting(new_model(), [1], batch_size=16)
    requests = [SampleRequest([5 + seed % 3, 9], seed) for seed in range(40)]
    alone = [engine.sample([one], SETTINGS, no_progress)[0] for one in requests]
    engine.calls = 0
    found = anyio.run(_ask_all, BatchedSampling(engine), requests)
    assert [answer.token_ids for answer in found] == [answer.token_ids for answer in alone]
    assert engine.calls < 10


def test_an_engine_that_fails_fails_each_and_answers_the_next(new_model: Any) -> None:
    engine = _Counting(new_model(), [1], batch_size=16)
    sampling = BatchedSampling(engine)
    refused = anyio.run(_ask_all, sampling, [SampleRequest([10**6], 1), SampleRequest([5], 2)])
    assert all(isinstance(one, EngineRefusedError) for one in refused)
    (answer,) = anyio.run(_ask_all, sampling, [SampleRequest([5], 2)])
    assert answer == engine.sample([SampleRequest([5], 2)], SETTINGS, no_progress)[0]
