"""Small random models with the structures of published ones, as folders."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKERS = ["<|endoftext|>", "<|im_end|>", "<|im_start|>", "<s>"]


def chat_tokenizer(
    writes_bos: bool = False, template: str | None = CHATML, **special: str
) -> PreTrainedTokenizerBase:
    """One token a byte, and markers. Its end of sequence is <|endoftext|>, as that of many chat
    models whose turns end in another one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{"eos_token": "<|endoftext|>", "bos_token": "<s>", "pad_token": "<|endoftext|>"}
        | special,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": MARKERS})
    if writes_bos:
        first = tokenizer.bos_token
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, tokenizer.bos_token_id)]
        )
    tokenizer.chat_template = template
    return tokenizer


def make_checkpoint(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    generation: dict[str, Any] | None = None,
    vocabulary_size: int | None = None,
    **config: Any,
) -> Path:
    """A Llama-shaped model and the tokenizer. generation: of generation_config.json."""
    torch.manual_seed(0)
    settings = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None} | config
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary_size or len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=256,
            **settings,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if generation is not None:
        edit_json(folder / "generation_config.json", generation, replace=True)
    return folder


def edit_json(path: Path, changes: dict[str, Any], replace: bool = False) -> None:
    """Set keys of a JSON object in a file, or all of it."""
    before = {} if replace else json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(before | changes), encoding="utf-8")
