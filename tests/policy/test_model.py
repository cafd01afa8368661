"""Checkpoints are ordinary Hugging Face folders, whole or refused (4 s)."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from distil_core.config.models import ComputeParams, PretrainedBase
from distil_core.errors import CheckpointError, ConfigError
from distil_core.policy import device
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.pretrained import link_pretrained

WEIGHTS = "model.safetensors"


@pytest.fixture
def copy(policy_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    shutil.copytree(policy_dir, folder)
    return folder


def test_saving_and_loading_changes_no_bit(
    new_model: Any, policy_dir: Path, compute: ComputeParams
) -> None:
    saved, loaded = new_model(), load_model(policy_dir, compute)
    assert not loaded.training
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


def test_any_hugging_face_program_loads_it(new_model: Any, policy_dir: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(policy_dir)
    ids = AutoTokenizer.from_pretrained(policy_dir)("1+1=", return_tensors="pt").input_ids
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, new_model()(ids).logits)


def test_the_same_policy_is_the_same_bytes(
    new_model: Any, tokenizer: Any, policy_dir: Path, tmp_path: Path
) -> None:
    save_policy(new_model(), tokenizer, tmp_path / "again")
    files = sorted(path.name for path in policy_dir.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert {WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json"} <= set(files)
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (policy_dir / name).read_bytes(), name


HALF_ON_CPU = ComputeParams(device="cpu", dtype="bfloat16", num_threads=1)


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "bf16"])
def test_loads_in_the_configured_type(
    policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feature: str
) -> None:
    name = "Features" if feature == "bf16" else "flags\t\t"
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{name}: fpu {feature} sse\n")
    monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "cpuinfo")
    assert load_model(policy_dir, HALF_ON_CPU).dtype == torch.bfloat16


@pytest.mark.parametrize("info", ["flags: fpu avx512f avx512_bf16x\n", "model name: bf16\n", None])
def test_half_precision_needs_a_cpu_that_has_it(
    policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info: str | None
) -> None:
    if info is not None:
        (tmp_path / "cpuinfo").write_text(info)
    monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "cpuinfo")
    with pytest.raises(ConfigError, match=r"a CPU that has no instructions for it"):
        load_model(policy_dir, HALF_ON_CPU)


def _truncate(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def _drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _reshape_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"] = torch.ones(8)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (shutil.rmtree, "no checkpoint in .*expected config.json"),
        (lambda folder: (folder / "config.json").unlink(), "no checkpoint in .*dvc checkout"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / WEIGHTS).unlink(), "no \\*.safetensors weights"),
        (_truncate, "cannot be loaded"),
        (_drop_a_tensor, r"incomplete: 1 tensors are missing, .*layers\.1\.mlp\.up_proj\.weight"),
        (_reshape_a_tensor, "cannot be loaded"),
    ],
)
def test_a_damaged_checkpoint(
    copy: Path, compute: ComputeParams, damage: Callable[[Path], None], expected: str
) -> None:
    damage(copy)
    with pytest.raises(CheckpointError, match=expected):
        load_model(copy, compute)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_missing_device(policy_dir: Path) -> None:
    compute = ComputeParams(device="cuda", dtype="bfloat16", num_threads=1)
    with pytest.raises(ConfigError, match=r"finds no CUDA device: set compute\.device to cpu"):
        load_model(policy_dir, compute)


def test_a_local_checkpoint_becomes_the_base_policy(
    policy_dir: Path, copy: Path, tmp_path: Path
) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"pickled")
    (copy / "optimizer").mkdir()
    base = tmp_path / "data" / "policy-000"
    link_pretrained(PretrainedBase(kind="pretrained", path_or_id=str(copy)), base)
    names = sorted(path.name for path in policy_dir.iterdir())
    assert sorted(path.name for path in base.iterdir()) == names
    assert all((base / name).read_bytes() == (policy_dir / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"path_or_id": "someone/model"}, "no folder here, and base.allow_download is false"),
        (
            # Not a possible name, so that the hub's client refuses it without asking the hub.
            {"path_or_id": "a/b/c", "revision": "0123abc", "allow_download": True},
            "cannot download 'a/b/c' at revision '0123abc' .*check the name",
        ),
    ],
)
def test_a_base_policy_that_is_not_there(
    tmp_path: Path, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(CheckpointError, match=expected):
        link_pretrained(PretrainedBase(kind="pretrained", **settings), tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_refused(copy: Path, tmp_path: Path) -> None:
    (copy / WEIGHTS).rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"holds no \*\.safetensors"):
        link_pretrained(PretrainedBase(kind="pretrained", path_or_id=str(copy)), tmp_path / "base")
