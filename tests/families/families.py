"""Published families: configuration, tokenizer, template and files as their checkpoints have them,
with random weights of a few thousand parameters."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers_of_families import byte_level, sentencepiece_like

LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim +"
    " '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_25 = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}{%- else %}"
    "{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n' }}{%- endif %}{%- for message in messages %}"
    '{%- if (message.role == "user") or (message.role == "system" and not loop.first) or '
    '(message.role == "assistant" and not message.tool_calls) %}'
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- endif %}"
)
QWEN_3 = (
    "{%- for message in messages %}{%- set content = message.content %}"
    "{%- if message.role == 'assistant' and '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)
GEMMA_3 = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}"
    "{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first_user_prefix = '' -%}"
    "{%- set loop_messages = messages -%}{%- endif -%}{%- for message in loop_messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{%- endif -%}{%- if (message['role'] == 'assistant') -%}{%- set role = 'model' -%}"
    "{%- else -%}{%- set role = message['role'] -%}{%- endif -%}"
    "{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}"
    "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
PHI_3 = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
SMOLLM_2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OLMO_2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}"
    "{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}"
    "{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}"
    "{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
"""Heads of 32 numbers, the fewest that vLLM computes on a CPU."""


@dataclass(frozen=True)
class Family:
    """model_type: of the configuration, made with `config` on top of the sizes. ends: every token
    that ends a response. pad: None for a tokenizer without one. begins_with: the first token that
    contexts need. num_padded: rows of the head beyond the tokenizer; -1 where one is missing.
    window: how many tokens some layers attend to, where contexts here are longer.
    in_vllm: whether it is tried in vLLM too. has_dropout: which its configuration turns on where
    nothing else is said. tokenizer_config: of that file."""

    name: str
    model_type: str
    tokenizer: Callable[[], Tokenizer]
    template: str | None
    ends: tuple[str, ...]
    begins_with: str = ""
    pad: str | None = None
    num_padded: int = 0
    window: int | None = None
    in_vllm: bool = False
    has_dropout: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer_config: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, seed: int = 0, **config: Any) -> Path:
        """The checkpoint's folder. config: other settings of the model."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        tokenizer = self.tokenizer()
        ids = [tokenizer.token_to_id(end) for end in self.ends]
        sizes = {} if self.model_type == "gpt2" else _SIZES
        named = {**sizes, **self.config, "eos_token_id": ids[0], "pad_token_id": None, **config}
        named.setdefault("vocab_size", tokenizer.get_vocab_size() + self.num_padded)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(self.model_type, **named))
        # Ends that come soon, one as often as another, and padding that would be drawn all the time
        # if it were not left out.
        with torch.no_grad():
            head = model.get_output_embeddings().weight
            head[ids] = 1.5 * head[ids[0]]
            if self.num_padded > 0:
                head[-self.num_padded :] = 4 * head[: self.num_padded]
        model.save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        special = {"eos_token": self.ends[0], "pad_token": self.pad}
        settings = {name: token for name, token in special.items() if token is not None}
        settings |= {"model_max_length": 512, **self.tokenizer_config}
        if self.template is not None:
            settings["chat_template"] = self.template
        _write(folder / "tokenizer_config.json", settings)
        generation = {"eos_token_id": ids if ids[1:] else ids[0]}
        _write(folder / "generation_config.json", {"do_sample": True, "top_p": 0.9, **generation})
        return folder


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


_LLAMA_3_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
)
_QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_THINKING = ("<tool_call>", "</tool_call>", "<think>", "</think>")
_BYTES = {"add_prefix_space": False, "clean_up_tokenization_spaces": False}

FAMILIES = (
    Family(
        "Llama 3",
        "llama",
        lambda: byte_level(_LLAMA_3_TOKENS, first="<|begin_of_text|>"),
        LLAMA_3,
        # The tokenizer's own, of text; a tool call's; a turn's.
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        begins_with="<|begin_of_text|>",
        in_vllm=True,
        config={
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
        },
    ),
    Family(
        "Qwen 2.5",
        "qwen2",
        lambda: byte_level(_QWEN_TOKENS, _THINKING[:2]),
        QWEN_25,
        ("<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
        num_padded=37,
        in_vllm=True,
        config={"tie_word_embeddings": True},
        tokenizer_config={"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, **_BYTES},
    ),
    Family(
        "Qwen 3",
        "qwen3",
        lambda: byte_level(_QWEN_TOKENS, _THINKING),
        QWEN_3,
        ("<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
        num_padded=37,
        config={"head_dim": 32},
        tokenizer_config={"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, **_BYTES},
    ),
    Family(
        "Gemma 3",
        "gemma3_text",
        lambda: sentencepiece_like(
            ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
            ("<image_soft_token>",),
            None,
            prefix_space=False,
        ),
        GEMMA_3,
        ("<eos>", "<end_of_turn>"),
        begins_with="<bos>",
        pad="<pad>",
        # The token of its relatives that read images, which this model has no row for.
        num_padded=-1,
        window=16,
        config={"head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 32},
        tokenizer_config={
            "tokenizer_class": "GemmaTokenizer",
            "bos_token": "<bos>",
            "unk_token": "<unk>",
            "add_bos_token": True,
            "image_token": "<image_soft_token>",
        },
    ),
    Family(
        "Mistral",
        "mistral",
        lambda: sentencepiece_like(
            ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), (), "<s>", prefix_space=True
        ),
        MISTRAL,
        ("</s>",),
        begins_with="<s>",
        config={"sliding_window": None},
        tokenizer_config={
            "tokenizer_class": "LlamaTokenizer",
            "bos_token": "<s>",
            "unk_token": "<unk>",
            "add_bos_token": True,
        },
    ),
    Family(
        "Phi-3",
        "phi3",
        lambda: sentencepiece_like(
            ("<unk>", "<s>", "</s>"),
            ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
            None,
            prefix_space=True,
        ),
        PHI_3,
        ("<|endoftext|>", "<|assistant|>", "<|end|>"),
        pad="<|endoftext|>",
        num_padded=29,
        config={"sliding_window": 2047},
        tokenizer_config={
            "tokenizer_class": "LlamaTokenizer",
            "bos_token": "<s>",
            "unk_token": "<unk>",
            "add_bos_token": False,
        },
    ),
    Family(
        "SmolLM2",
        "llama",
        lambda: byte_level(("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
        SMOLLM_2,
        ("<|im_end|>",),
        pad="<|im_end|>",
        config={"tie_word_embeddings": True},
        tokenizer_config={
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": "<|im_start|>",
            "unk_token": "<|endoftext|>",
            **_BYTES,
        },
    ),
    Family(
        "OLMo 2",
        "olmo2",
        lambda: byte_level(("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>")),
        OLMO_2,
        ("<|endoftext|>",),
        pad="<|pad|>",
        num_padded=74,
        tokenizer_config={
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            **_BYTES,
        },
    ),
    Family(
        "GPT-2",
        "gpt2",
        lambda: byte_level(("<|endoftext|>",)),
        None,
        ("<|endoftext|>",),
        has_dropout=True,
        config={
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 512,
            "initializer_range": 0.2,
        },
        tokenizer_config={
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            **_BYTES,
        },
    ),
)


def table() -> str:
    """The table of docs/models.md."""
    lines = [
        "| family | ends of a response | first token | pad | head | layouts | vLLM |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        if family.num_padded > 0:
            head = "padded: the rest is left out"
        else:
            head = "a placeholder of images without a row" if family.num_padded else "alike"
        layouts = "padded, packed" + (
            ", prefix_tree" if family.window is None else "; prefix_tree up to its window"
        )
        cells = [
            f"{family.name} (`{family.model_type}`)",
            " ".join(f"`{end}`" for end in family.ends).replace("|", "\\|"),
            f"`{family.begins_with}`".replace("|", "\\|") if family.begins_with else "none",
            f"`{family.pad}`".replace("|", "\\|") if family.pad else "none",
            head,
            layouts,
            "tried" if family.in_vllm else "not tried",
        ]
        if family.has_dropout:
            cells[4] += "; dropout"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
