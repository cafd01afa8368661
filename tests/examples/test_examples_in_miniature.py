"""Each example through every stage of an iteration, made small, and what an own model's files must
be (1 min)."""

import json
import shutil
from pathlib import Path

import pytest
from example_data import EXAMPLES, make_checkpoint
from miniature import run_iteration, run_stage, small

from distil_core.config.models import WordingParams
from distil_core.errors import CheckpointError
from distil_core.feedback.wording import worded
from distil_core.tables.schemas import CONSULTATIONS, FEEDBACK
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace

NAMES = sorted(file.parent.name for file in EXAMPLES.glob("*/params.yaml"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_runs(
    name: str, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in ("reasoning-gym", "smollm2-names"):
        pytest.importorskip("reasoning_gym")
    if name == "live-code-bench" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    workspace, values = Workspace(tmp_path), small(name, tmp_path, checkpoint)
    run_iteration(workspace, values)
    consultations = read_rows(workspace.consultations_file(1), CONSULTATIONS)
    assert all(row.error is None for row in consultations)
    rows = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert len(rows) == values["sample"]["num_prompts"] * values["sample"]["num_rollouts"]
    # Both contexts end in the same token, which stands before the response.
    if name != "grpo":
        # With the words of a calculator the expert is silent where there is no correction.
        wording = WordingParams(**values["context"].get("wording", {}))
        says = [bool(worded(row.feedback, wording)) for row in consultations]
        assert [row.has_expert for row in rows] == says
        assert all(says) or wording.keep == "corrections"
        ends = {row.expert_context_ids[-1] for row in rows if row.has_expert}
        assert ends <= {row.context_ids[-1] for row in rows}
    metrics = json.loads(workspace.metrics_file(1).read_text())
    assert metrics["num_problems"] == values["problems"]["num_eval"]
    assert (workspace.policy_dir(1) / "model.safetensors").exists()


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, checkpoint: Path) -> None:
    values = small("gsm8k", tmp_path, checkpoint)
    values["base"]["path_or_id"] = "some-org/some-model"
    with pytest.raises(CheckpointError, match=r"'some-org/some-model' is no folder here"):
        run_stage("base", Workspace(tmp_path), values, 0)


def test_pickled_weights_are_not_taken(tmp_path: Path, checkpoint: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "pickled")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"holds no \*\.safetensors"):
        run_stage("base", Workspace(tmp_path), small("gsm8k", tmp_path, copy), 0)
