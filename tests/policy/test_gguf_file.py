"""A GGUF file as the base: written here by the container's own library, read as a whole policy."""

import hashlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tiny_models import CHATML, MARKERS
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from distil_core.config.models import PretrainedBase
from distil_core.errors import CheckpointError
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import read_model
from distil_core.policy.pretrained import link_pretrained, view_pretrained
from distil_core.policy.tokenizer import load_tokenizer

HEADS, KEY_HEADS = 4, 2
TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġt", *MARKERS]
END = TOKENS.index("<|im_end|>")
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def new_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def gguf_name(name: str) -> str:
    """As llama.cpp calls the tensor."""
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
    }
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def permuted(weight: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Rows in llama.cpp's order of rotary pairs."""
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write(
    file: Path,
    model: LlamaForCausalLM,
    quantised: gguf.GGMLQuantizationType | None = None,
    without: str = "",
    architecture: str = "llama",
) -> Path:
    writer = gguf.GGUFWriter(file, architecture)
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_embedding_length(config.hidden_size)
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    kinds = [
        gguf.TokenType.CONTROL if token in MARKERS else gguf.TokenType.NORMAL for token in TOKENS
    ]
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ġ t"])
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(END)
    writer.add_bos_token_id(TOKENS.index("<|im_start|>"))
    writer.add_chat_template(CHATML)
    for name, tensor in model.named_parameters():
        if without and without in name:
            continue
        weight = tensor.detach().numpy()
        if "q_proj" in name or "k_proj" in name:
            weight = permuted(weight, HEADS if "q_proj" in name else KEY_HEADS)
        if quantised is None or weight.ndim == 1:
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(weight))
        else:
            stored = gguf.quants.quantize(np.ascontiguousarray(weight), quantised)
            writer.add_tensor(gguf_name(name), stored, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def base_of(file: Path) -> PretrainedBase:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return PretrainedBase(kind="pretrained", path_or_id=str(file), sha256=digest)


@torch.inference_mode()
def test_it_becomes_the_model_that_it_was_written_from(tmp_path: Path, cache: Path) -> None:
    model = new_model()
    base = base_of(write(tmp_path / "tiny.gguf", model))
    policy_dir = tmp_path / "policy-000"
    link_pretrained(base, policy_dir)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        file.name for file in policy_dir.iterdir()
    }
    found = read_model(policy_dir, "auto")
    assert found.dtype == torch.float32
    ids = torch.arange(12)[None]
    assert torch.equal(found(ids).logits, model(ids).logits)
    tokenizer = load_tokenizer(policy_dir)
    assert end_token_ids(tokenizer) == (END,)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2 to 3"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\n2 to 3<|im_end|>\n<|im_start|>assistant\n"
    ids_of_text = tokenizer.encode("2 to", add_special_tokens=False)
    assert [TOKENS[i] for i in ids_of_text] == ["2", "Ġt", "o"]
    # Once: the folder in the cache is used again, and what was made of it stays whole.
    (made,) = (cache / "distil" / "gguf").iterdir()
    before = {file: file.stat().st_mtime_ns for file in made.iterdir()}
    view_pretrained(base, tmp_path / "seen")
    assert {file: file.stat().st_mtime_ns for file in made.iterdir()} == before


@torch.inference_mode()
def test_quantised_weights_are_the_numbers_they_stand_for(tmp_path: Path) -> None:
    model, kind = new_model(), gguf.GGMLQuantizationType.Q8_0
    policy_dir = tmp_path / "policy-000"
    link_pretrained(base_of(write(tmp_path / "tiny.gguf", model, kind)), policy_dir)
    found = dict(read_model(policy_dir, "auto").named_parameters())
    for name, weight in model.named_parameters():
        expected = weight.numpy()
        if weight.ndim > 1:
            expected = gguf.quants.dequantize(gguf.quants.quantize(expected, kind), kind)
        np.testing.assert_array_equal(found[name].numpy(), expected)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:2000], "cannot be read as GGUF"),
        (lambda content: content[:-4000], "cannot be read as GGUF"),
        (lambda content: b"GGML" + content[4:], "cannot be read as GGUF"),
    ],
)
def test_a_damaged_file(tmp_path: Path, cache: Path, damage: Any, said: str) -> None:
    file = write(tmp_path / "tiny.gguf", new_model())
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=said):
        link_pretrained(base_of(file), tmp_path / "policy-000")
    assert not list((cache / "distil" / "gguf").iterdir())
    assert not (tmp_path / "policy-000").exists()


def test_a_file_without_one_of_its_tensors(tmp_path: Path) -> None:
    file = write(tmp_path / "tiny.gguf", new_model(), without="layers.1.mlp.up_proj")
    with pytest.raises(CheckpointError, match=r"1 tensors are missing, the first is .*up_proj"):
        link_pretrained(base_of(file), tmp_path / "policy-000")


def test_an_architecture_that_is_not_read(tmp_path: Path) -> None:
    file = write(tmp_path / "tiny.gguf", new_model(), architecture="rwkv9")
    with pytest.raises(CheckpointError, match="an architecture that transformers reads"):
        link_pretrained(base_of(file), tmp_path / "policy-000")


@pytest.mark.parametrize("sha256", [None, "", "0" * 64])
def test_another_file_than_the_pinned_one(tmp_path: Path, sha256: str | None) -> None:
    file = write(tmp_path / "tiny.gguf", new_model())
    base = PretrainedBase(kind="pretrained", path_or_id=str(file), sha256=sha256)
    with pytest.raises(CheckpointError, match=r"found [0-9a-f]{64}\. `distil pin`"):
        link_pretrained(base, tmp_path / "policy-000")


def test_no_file(tmp_path: Path) -> None:
    base = PretrainedBase(kind="pretrained", path_or_id=str(tmp_path / "no.gguf"), sha256="0")
    with pytest.raises(CheckpointError, match=r"cannot read .*no\.gguf.*: No such file"):
        link_pretrained(base, tmp_path / "policy-000")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_of(write(tmp_path / "tiny.gguf", new_model()))
    monkeypatch.setattr("distil_core.policy.gguf_file.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install 'distil\[gguf\]'"):
        link_pretrained(base, tmp_path / "policy-000")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path_or_id": "m.gguf", "revision": "abc"}, "names a file, which is never downloaded"),
        ({"path_or_id": "folder", "sha256": "0"}, "sha256 pins a GGUF file"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PretrainedBase(kind="pretrained", **settings)
