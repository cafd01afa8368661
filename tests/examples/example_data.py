"""Small data and a small checkpoint in place of what an example's paths stand for."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distil_core.campaign.extends import read_settings

EXAMPLES = Path(__file__).parents[2] / "examples"
SYSTEM = "Answer as <reasoning>..</reasoning> and <answer>the letter</answer>."
Rows = list[dict[str, Any]]
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def example_settings(name: str) -> dict[str, Any]:
    """The example's settings with what they extend, as they are frozen."""
    path = EXAMPLES / name / "params.yaml"
    return read_settings(path, f"examples/{name}/params.yaml").values


def shrink(values: dict[str, Any], checkpoint: Path) -> None:
    """Few and short of everything, for a base that is the checkpoint."""
    values["compute"] = {"device": "cpu", "dtype": "float32", "num_threads": 1}
    values["problems"]["num_eval"] = 3
    values["base"] |= {"path_or_id": str(checkpoint), "sha256": None}
    values["sample"] |= {"num_prompts": 4, "num_rollouts": 2, "max_new_tokens": 12}
    values["verification"] = {"num_workers": 1}
    values["train"] |= {"num_steps": 2, "batch_rollouts": 4, "warmup_steps": 0}
    if values["train"].get("micro_batch_rollouts"):
        values["train"]["micro_batch_rollouts"] = 2
    values["evaluate"] |= {"num_samples": 2, "max_new_tokens": 12, "num_bootstrap": 100}
    values["gate"]["margins"] = {"pass_at_1": 0.02}


def word_problems(count: int, reference: str = "solution") -> Rows:
    return [
        {"question": f"{n} and {n}?", reference: f"{n}+{n}={2 * n}\n#### {2 * n}", "n": n}
        for n in range(count)
    ]


def published_word_problems(count: int) -> Rows:
    return word_problems(count, "answer")


def choices(count: int) -> Rows:
    return [
        {
            "idx": n,
            "kind": "mcq",
            "system": SYSTEM,
            "prompt": f"Which is {n}?\n\nA: {n}\nB: {n + 1}\nC: {n + 2}\nD: {n + 3}",
            "answer": "A",
        }
        for n in range(count)
    ]


def calls(count: int) -> Rows:
    tools = [{"name": "add", "description": "Adds.", "parameters": {"a": {"type": "int"}}}]
    return [
        {
            "id": n,
            "query": f"Add {n}.",
            "tools": json.dumps(tools),
            "answers": json.dumps([{"name": "add", "arguments": {"a": n}}]),
        }
        for n in range(count)
    ]


def plain_calls(count: int) -> Rows:
    return [
        {"question": f"Add {n}.", "answer": json.dumps({"name": "add", "arguments": {"a": n}})}
        for n in range(count)
    ]


def contests(count: int) -> Rows:
    return [
        {
            "question_id": f"q{n}",
            "question_content": f"Read a number and print it plus {n}.",
            "starter_code": "",
            "public_test_cases": json.dumps([{"input": "1\n", "output": f"{1 + n}\n"}]),
            "private_test_cases": json.dumps([{"input": "5\n", "output": f"{5 + n}\n"}]),
            "metadata": "{}",
        }
        for n in range(count)
    ]


ROWS: dict[str, Callable[[int], Rows]] = {
    "gsm8k": published_word_problems,
    "hugging-face-hub": published_word_problems,
    "live-code-bench": contests,
    "own-jsonl": word_problems,
    "own-parquet": word_problems,
    "paper": choices,
    "science-questions": choices,
    "smollm2": published_word_problems,
    "smollm2-calls": plain_calls,
    "smollm2-tools": published_word_problems,
    "tool-calls": calls,
}
"""By the example's name: rows as its files hold them."""


def use_own_files(values: dict[str, Any], folder: Path, rows: Callable[[int], Rows]) -> None:
    """Files in place of the example's, pinned. With one file the split takes what it takes."""
    options, everything = values["problems"]["source"]["options"], rows(100)
    parts = {"train": everything}
    if options.get("eval"):
        parts = {"train": everything[:50], "eval": everything[50:]}
    for split, part in parts.items():
        path = folder / Path(options[split]["path"]).name
        write_rows(path, part)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        options[split] = {"path": str(path), "sha256": digest}


def use_cached_files(values: dict[str, Any], cache: Path, rows: Callable[[int], Rows]) -> None:
    """The hub's local cache with the data set that the example names, at its commit."""
    options, everything = values["problems"]["source"]["options"], rows(100)
    options["allow_download"] = False
    repository = cache / f"datasets--{options['dataset'].replace('/', '--')}"
    for split, part in (("train", everything[:50]), ("eval", everything[50:])):
        path = repository / "snapshots" / options["revision"] / options[split][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, part)


def write_rows(path: Path, rows: Rows) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_checkpoint(folder: Path) -> Path:
    """An untrained Llama whose tokenizer knows bytes and has a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = _CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16384,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
