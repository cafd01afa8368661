"""What docs/gsm8k.yaml describes, on small files and a small checkpoint, through every stage."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from distil_core.campaign import parse_iteration_params, parse_params
from distil_core.errors import CheckpointError
from distil_core.policy.tokenizer import character_tokenizer
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, FEEDBACK
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace

EXAMPLE = Path(__file__).parents[2] / "docs" / "gsm8k.yaml"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tokenizer = character_tokenizer("")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder = tmp_path / "checkpoint"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def settings(tmp_path: Path, checkpoint: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    for split, count in (("train", 6), ("eval", 3)):
        path = tmp_path / f"{split}.jsonl"
        rows = [
            {"question": f"{split}: {n} and {n}?", "answer": f"{n}+{n}={2 * n}\n#### {2 * n}"}
            for n in range(count)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        values["problems"]["source"]["options"][split] = {
            "path": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    values["compute"] = {"device": "cpu", "dtype": "float32", "num_threads": 1}
    values["problems"] |= {"num_train": "all", "num_eval": 3}
    values["base"] = {"kind": "pretrained", "path_or_id": str(checkpoint)}
    values["sample"] |= {"num_prompts": 4, "num_rollouts": 2, "max_new_tokens": 12}
    values["train"] |= {"num_steps": 2, "batch_rollouts": 4}
    values["evaluate"] |= {"num_samples": 2, "max_new_tokens": 12, "num_bootstrap": 100}
    values["gate"]["margins"] = {"pass_at_1": 0.02}
    return values


def run_stage(name: str, workspace: Workspace, values: dict[str, Any], iteration: int) -> None:
    frozen = {**values, "iteration": iteration, "stage_versions": {}}
    body = importlib.import_module(f"distil_tasks.{name}").body
    body(workspace, parse_iteration_params(frozen, "test"), no_progress)


def test_the_example_is_valid_as_it_stands() -> None:
    params = parse_params(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")), EXAMPLE.name)
    assert params.base.kind == "pretrained"


def test_every_stage_runs_on_a_checkpoint_and_files_of_ones_own(
    tmp_path: Path, checkpoint: Path
) -> None:
    workspace, values = Workspace(tmp_path), settings(tmp_path, checkpoint)
    for name in ("problems", "base", "evaluate"):
        run_stage(name, workspace, values, 0)
    for name in ("sample", "consult", "tabulate", "train", "evaluate", "gate"):
        run_stage(name, workspace, values, 1)
    consultations = read_rows(workspace.consultations_file(1), CONSULTATIONS)
    assert {row.verdict for row in consultations} <= {"truncated", "malformed", "wrong"}
    assert all(row.feedback for row in consultations)
    rows = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert len(rows) == 8
    assert all(row.has_expert for row in rows)
    # Both contexts end in the same token, and the template's turn marker is one token in each.
    assert {row.context_ids[-1] for row in rows} == {row.expert_context_ids[-1] for row in rows}
    assert json.loads(workspace.metrics_file(1).read_text())["num_problems"] == 3


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, checkpoint: Path) -> None:
    values = settings(tmp_path, checkpoint)
    values["base"]["path_or_id"] = "some-org/some-model"
    with pytest.raises(CheckpointError, match=r"'some-org/some-model' is no folder here"):
        run_stage("base", Workspace(tmp_path), values, 0)


def test_pickled_weights_are_not_taken(tmp_path: Path, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"holds no \*\.safetensors"):
        run_stage("base", Workspace(tmp_path), settings(tmp_path, checkpoint), 0)
