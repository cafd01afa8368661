"""A LoRA adapter becomes a policy: the model it was trained on with the adapter in its weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from distil_core.config.models import PretrainedBase
from distil_core.errors import CheckpointError
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model
from distil_core.policy.pretrained import link_pretrained
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest

IDS = torch.tensor([[5, 9, 14, 33, 7]])


def adapted(policy_dir: Path, compute: Any) -> Any:
    model = get_peft_model(
        load_model(policy_dir, compute),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], lora_alpha=8),
    )
    random = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=random) * 0.2
    return model.eval()


@pytest.fixture
def adapter(policy_dir: Path, compute: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    adapted(policy_dir, compute).save_pretrained(folder)
    return folder


def link(folder: Path, target: Path) -> None:
    link_pretrained(PretrainedBase(kind="pretrained", path_or_id=str(folder)), target)


@torch.inference_mode()
def test_the_policy_computes_what_model_and_adapter_do(
    adapter: Path, policy_dir: Path, compute: Any, tmp_path: Path
) -> None:
    link(adapter, tmp_path / "policy-000")
    merged = load_model(tmp_path / "policy-000", compute)
    expected = adapted(policy_dir, compute)(IDS).logits
    without = load_model(policy_dir, compute)(IDS).logits
    torch.testing.assert_close(merged(IDS).logits, expected, rtol=1e-5, atol=1e-5)
    assert (expected - without).abs().max() > 0.01
    tokenizers = [load_tokenizer(folder) for folder in (tmp_path / "policy-000", policy_dir)]
    assert tokenizer_digest(tokenizers[0]) == tokenizer_digest(tokenizers[1])


def test_merging_gives_the_same_bytes_again(adapter: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        link(adapter, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "model.safetensors" in files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "only LORA can be added"),
        ({"base_model_name_or_path": "some-org/some-model"}, "is no checkpoint folder here"),
        ({"base_model_name_or_path": None}, "'?None'?, which is no checkpoint"),
    ],
)
def test_adapters_that_cannot_be_merged(
    adapter: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        link(adapter, tmp_path / "policy-000")
    assert not (tmp_path / "policy-000").exists()


def test_pickled_or_foreign_weights_are_not_taken(
    adapter: Path, new_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    model = new_model(num_layers=1)
    model.save_pretrained(other)
    tokenizer.save_pretrained(other)
    path = adapter / "adapter_config.json"
    configuration = json.loads(path.read_text())
    path.write_text(json.dumps(configuration | {"base_model_name_or_path": str(other)}))
    with pytest.raises(CheckpointError, match="is it the model that it was trained on"):
        link(adapter, tmp_path / "policy-000")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"holds no adapter_model\.safetensors"):
        link(adapter, tmp_path / "policy-000")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"megatron_config": {"x": 1}}, "sets megatron_config"),
        ({"megatron_core": "adapter.evil"}, "sets megatron_core to 'adapter.evil'"),
        ({"layer_replication": [[0, 1]]}, "sets layer_replication"),
        ({"init_lora_weights": "pissa"}, "sets init_lora_weights"),
        ({"some_future_setting": 3}, "sets some_future_setting"),
        ({"rank_pattern": {"(a+)+$": 2}}, "rank_pattern names"),
        ({"peft_type": "EVIL"}, "only LORA can be added"),
        ({"r": "many"}, "adapter"),
    ],
)
def test_settings_that_are_not_read(
    adapter: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (adapter / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(CheckpointError, match=message):
        link(adapter, tmp_path / "policy-000")


def test_modules_named_by_a_pattern(adapter: Path, tmp_path: Path) -> None:
    link(adapter, tmp_path / "listed")
    path = adapter / "adapter_config.json"
    # It would take for ever as a pattern; the weights say which modules there are.
    pattern = {"target_modules": "(.*)*(.*)*(.*)*proj!"}
    path.write_text(json.dumps(json.loads(path.read_text()) | pattern))
    link(adapter, tmp_path / "pattern")
    listed, by_pattern = (tmp_path / name / "model.safetensors" for name in ("listed", "pattern"))
    assert listed.read_bytes() == by_pattern.read_bytes()


def test_a_link_and_a_pickled_model_below_an_adapter(
    adapter: Path, policy_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("{}")
    (adapter / "chat_template.jinja").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="is a link to a file outside"):
        link(adapter, tmp_path / "policy-000")
    (adapter / "chat_template.jinja").unlink()
    model = shutil.copytree(policy_dir, tmp_path / "model")
    (model / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": [1, 5]}')
    path = adapter / "adapter_config.json"
    named = {"base_model_name_or_path": str(model)}
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    link(adapter, tmp_path / "policy-000")
    assert end_token_ids(load_tokenizer(tmp_path / "policy-000")) == (1, 5)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pytorch_model\.bin"):
        link(adapter, tmp_path / "policy-000")
