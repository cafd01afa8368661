"""A pretrained base is warm-started: on what, toward what, the same each time (20 s)."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from distil_core.campaign.load import parse_iteration_params
from distil_core.config.models import IterationParams
from distil_core.errors import ConfigError, DataError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.model import read_model
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.progress import no_progress
from distil_core.training import warm_start as training
from distil_core.training.warm_start import WarmStartExample
from distil_core.workspace import Workspace
from distil_tasks import base, base_warm_start, problems

PROJECT = Path(__file__).parents[2]
sys.path.append(str(PROJECT / "tests" / "policy"))
from tiny_models import chat_tokenizer, make_checkpoint  # noqa: E402

NUM_PROBLEMS = 24
STUDENT = "{prompt}="
EXPERT = "{prompt}? {attempt} is {verdict}: {tool_output}\n{prompt}="
USUAL = {
    "phases": [{"num_steps": 4, "correction_fraction": 0.5}],
    "learning_rate": 0.01,
    "demonstration_template": "#### {reference}",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Turns end with <|im_end|>, which is not its tokenizer's end of sequence."""
    tokenizer = chat_tokenizer()
    turn_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ends = [tokenizer.eos_token_id, turn_end]
    folder = tmp_path_factory.mktemp("checkpoints") / "chat"
    return make_checkpoint(folder, tokenizer, {"eos_token_id": ends})


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"{i}+{i}", "answer": f"{2 * i}"} for i in range(NUM_PROBLEMS + 16)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    torch.set_num_threads(1)
    return Workspace(tmp_path)


def pinned(path: Path) -> dict[str, str]:
    return {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def params(
    workspace: Workspace, checkpoint: Path, warm: dict[str, Any] | None, **context: Any
) -> IterationParams:
    values = yaml.safe_load((PROJECT / "presets" / "instruct.yaml").read_text(encoding="utf-8"))
    options = {
        "train": pinned(workspace.root / "sums.jsonl"),
        "eval_fraction": 0.2,
        "prompt_field": "question",
        "reference_field": "answer",
    }
    values["compute"] |= {"device": "cpu", "dtype": "float32", "num_threads": 1}
    values["problems"] = {
        "source": {"name": "jsonl", "options": options},
        "num_warm_start": NUM_PROBLEMS,
        "num_train": 2,
        "num_eval": 2,
    }
    values["sample"] |= {"num_prompts": 2, "num_rollouts": 2, "max_new_tokens": 8}
    values["train"] |= {"batch_rollouts": 4}
    values["evaluate"]["max_new_tokens"] = 8
    values["consult"] |= {"reveal": "expected_outputs"}
    values["context"] = {
        "chat": True,
        "student_template": STUDENT,
        "expert_template": EXPERT,
        "max_context_tokens": 200,
    } | context
    values["resume"] = {"checkpoint_every_s": 0.0}
    values["base"] = {"kind": "pretrained", "path_or_id": str(checkpoint)}
    if warm is not None:
        values["base"]["warm_start"] = USUAL | warm
    return parse_iteration_params(values | {"iteration": 0, "stage_versions": {}}, "test")


def make(workspace: Workspace, settings: IterationParams, progress: Any = no_progress) -> None:
    if not (workspace.problems_dir / "warm_start.parquet").exists():
        problems.body(workspace, settings, no_progress)
    base.body(workspace, settings, progress)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[list[WarmStartExample]]:
    """Demonstrations and corrections that the warm start is given; it still trains on them."""
    seen: list[list[WarmStartExample]] = []

    def watched(model: Any, shown: Any, asked: Any, *rest: Any) -> None:
        seen.extend([shown, asked])
        training.warm_start(model, shown, asked, *rest)

    monkeypatch.setattr(base_warm_start, "warm_start", watched)
    return seen


def spelled(folder: Path, token_ids: list[int]) -> str:
    return str(load_tokenizer(folder).decode(token_ids))


def test_demonstrations_and_corrections_are_of_the_campaigns_contexts(
    workspace: Workspace, checkpoint: Path, trained_on: list[list[WarmStartExample]]
) -> None:
    settings = params(workspace, checkpoint, {"demonstration_template": "{reference}"})
    with pytest.raises(DataError, match=r"none of the 24 demonstrations .* is malformed: correct"):
        make(workspace, settings)
    settings = params(
        workspace, checkpoint, {"demonstration_template": "{prompt} #### {reference}"}
    )
    make(workspace, settings)
    shown, asked = trained_on
    assert len(shown) == len(asked) == NUM_PROBLEMS
    renderer = ContextRenderer(settings.context, load_tokenizer(checkpoint))
    for demonstration, correction in zip(shown, asked, strict=True):
        text = spelled(checkpoint, demonstration.input_ids)
        total = int(text.removesuffix("<|im_end|>").rpartition(" ")[2])
        prompt = f"{total // 2}+{total // 2}"
        assert text == f"{prompt} #### {total}<|im_end|>"
        assert demonstration.context_ids == renderer.student(prompt, "").token_ids
        assert correction.input_ids == correction.label_ids == demonstration.input_ids
        context = spelled(checkpoint, correction.context_ids)
        start = f"<|im_start|>user\n{prompt}? {prompt} #### "
        assert context.startswith(start)
        another = int(context.removeprefix(start).partition(" ")[0])
        assert another % 2 == 0
        assert another != total
        assert f"{another} is wrong: " in context
        assert context.endswith(f"{prompt}=<|im_end|>\n<|im_start|>assistant\n")


def loss(folder: Path, examples: list[WarmStartExample]) -> float:
    model = read_model(folder, torch.float32)
    with torch.inference_mode():
        return float(training._supervised_loss(model, training._batch(examples, "padded")))


def test_it_learns_both_and_stays_the_same_checkpoint_otherwise(
    workspace: Workspace,
    checkpoint: Path,
    trained_on: list[list[WarmStartExample]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    phases = [{"num_steps": 30, "correction_fraction": 0.5}]
    make(workspace, params(workspace, checkpoint, {"phases": phases}))
    policy = workspace.policy_dir(0)
    for examples in trained_on:
        assert loss(policy, examples) < loss(checkpoint, examples) - 1
    before, after = load_tokenizer(checkpoint), load_tokenizer(policy)
    assert before.get_vocab() == after.get_vocab()
    assert before.chat_template == after.chat_template
    for name in ("eos_token_id", "pad_token_id"):
        found = [
            json.loads((d / "generation_config.json").read_text()) for d in (checkpoint, policy)
        ]
        assert found[0].get(name) == found[1].get(name)
    assert "warm start on 24 demonstrations and 24 corrections" in capsys.readouterr().err
    assert not (workspace.scratch_dir / "cold-base").exists()
    assert not workspace.resume_file("base", 0).exists()


def weights(workspace: Workspace) -> bytes:
    return (workspace.policy_dir(0) / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attempts": {"max_new_tokens": 6, "batch_size": 5}},
        {"micro_batch_size": 3, "activation_checkpointing": True, "layout": "prefix_tree"},
        {"lora": {"rank": 2, "alpha": 4.0, "target_modules": ["q_proj"], "dropout": 0.2}},
    ],
    ids=["plain", "sampled", "little memory", "lora"],
)
def test_interrupted_it_goes_on_to_the_same_bits(
    workspace: Workspace, checkpoint: Path, changes: dict[str, Any]
) -> None:
    settings = params(workspace, checkpoint, changes)
    make(workspace, settings)
    whole = weights(workspace)
    assert whole != (checkpoint / "model.safetensors").read_bytes()

    class Stopped(Exception):
        pass

    def until_the_second_step(done: int, total: int) -> None:
        if (done, total) == (2, 4):
            raise Stopped

    with pytest.raises(Stopped):
        make(workspace, settings, until_the_second_step)
    assert workspace.resume_file("base", 0).exists()
    steps: list[int] = []

    def note(done: int, total: int) -> None:
        if total == 4:
            steps.append(done)

    make(workspace, settings, note)
    assert steps == [3, 4]
    assert weights(workspace) == whole


def test_rows_of_ones_own(
    workspace: Workspace, checkpoint: Path, trained_on: list[list[WarmStartExample]]
) -> None:
    file = workspace.root / "mine.jsonl"
    feedback = {"attempt": "5", "verdict": "wrong", "tool_output": "2+2 = {4}"}
    rows: list[dict[str, Any]] = [
        {"ask": "2+2", "say": "<|im_end|> 4", "hear": feedback},
        {"ask": "3+3", "say": "6", "hear": None},
        {"ask": "4+4", "say": "8"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    fields = {"prompt_field": "ask", "response_field": "say", "feedback_field": "hear"}
    make(workspace, params(workspace, checkpoint, {"file": pinned(file), **fields}))
    shown, asked = trained_on
    end = load_tokenizer(checkpoint).convert_tokens_to_ids("<|im_end|>")
    assert [spelled(checkpoint, one.input_ids) for one in shown] == ["6<|im_end|>", "8<|im_end|>"]
    assert spelled(checkpoint, asked[0].input_ids) == "<|im_end|> 4<|im_end|>"
    assert asked[0].input_ids.count(end) == 1, "what looks like an end in a text is none"
    assert "2+2? 5 is wrong: 2+2 = {4}\n2+2=" in spelled(checkpoint, asked[0].context_ids)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "1", "response": ""}], r"mine.jsonl, line 1: field 'response': expected text"),
        ([{"prompt": "1"}, {"response": "1"}], r"2 rows of base.warm_start.file"),
        (
            [{"prompt": "1", "response": "1", "feedback": {"tool_outputs": "x"}}],
            r"no field 'tool_outputs' of context.expert_template.* did you mean tool_output",
        ),
        ([{"prompt": "1", "response": "1", "feedback": "x"}], r"expected an object"),
        ([{"prompt": "1", "response": "1"}], r"1 rows and no corrections"),
        (
            [{"prompt": "1", "response": "1" * 40, "feedback": {"tool_output": "x"}}],
            r"response has 41 tokens, base.warm_start.max_response_tokens is 40",
        ),
        (
            [{"prompt": "1", "response": "1", "feedback": {"tool_output": "x" * 300}}],
            r"context.max_context_tokens allows 200",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named(
    workspace: Workspace, checkpoint: Path, rows: list[dict[str, Any]], message: str
) -> None:
    file = workspace.root / "mine.jsonl"
    more = {"prompt": "1", "response": "1"} if "feedback" in rows[0] else None
    file.write_text("\n".join(json.dumps(row) for row in [*rows, more] if row is not None))
    warm = {"file": pinned(file), "max_response_tokens": 40}
    with pytest.raises(DataError, match=message):
        make(workspace, params(workspace, checkpoint, warm))
    assert not workspace.policy_dir(0).exists()


def test_another_file_than_the_pinned_one_is_refused(
    workspace: Workspace, checkpoint: Path
) -> None:
    file = workspace.root / "mine.jsonl"
    file.write_text('{"prompt": "1", "response": "1"}\n')
    warm = {"file": pinned(file), "phases": [{"num_steps": 1, "correction_fraction": 0}]}
    settings = params(workspace, checkpoint, warm)
    file.write_text('{"prompt": "1", "response": "2"}\n')
    with pytest.raises(DataError, match=r"mine.jsonl has SHA-256 .* if these are the rows"):
        make(workspace, settings)


@pytest.mark.parametrize(
    ("warm", "message"),
    [
        ({"demonstration_template": "{answer}"}, "expected {reference}"),
        ({"num_corrections": 25}, "num_corrections 25 exceeds problems.num_warm_start 24"),
        (
            {"file": {"path": "x", "sha256": ""}, "num_corrections": 2},
            "num_corrections make corrections of problems",
        ),
        (
            {"num_corrections": 2, "phases": [{"num_steps": 1, "correction_fraction": 0}]},
            "no phase has a correction_fraction above 0",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(
    workspace: Workspace, checkpoint: Path, warm: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        params(workspace, checkpoint, warm)


def test_without_it_nothing_is_other_than_before(workspace: Workspace, checkpoint: Path) -> None:
    settings = params(workspace, checkpoint, None)
    assert settings.model_dump()["base"].keys() == {
        "kind",
        "path_or_id",
        "revision",
        "allow_download",
    }
    make(workspace, settings)
    assert weights(workspace) == (checkpoint / "model.safetensors").read_bytes()
