"""Tokenizers of the kinds that published models have, trained on a few lines."""

import json
from collections.abc import Sequence

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXT = [
    "What is 12 and 30? The answer is 42.",
    "3+4=7, so seven apples are left: 7 - 2 = 5.",
    "Solve it step by step and write the answer at the end.\n\n#### 42",
] * 4

# Of Llama 3, which Qwen, SmolLM2's digits and OLMo 2 differ from in a detail each.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _special(names: Sequence[str]) -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=False) for name in names]


def byte_level(
    special: Sequence[str], markers: Sequence[str] = (), first: str | None = None
) -> Tokenizer:
    """Byte-level BPE with the special tokens behind the vocabulary. markers: added, not special.
    first: the token that it writes before a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.add_special_tokens(_special(special))
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in markers])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if first is not None:
        _write_first(tokenizer, first)
    return tokenizer


def sentencepiece_like(
    special: Sequence[str], later: Sequence[str], first: str | None, prefix_space: bool
) -> Tokenizer:
    """BPE on characters with a token for each byte, as converted from sentencepiece. special: ids 0
    on. later: special ones behind the vocabulary. prefix_space: whether a text begins with one."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    trained.train_from_iterator(
        [line.replace(" ", "\u2581") for line in TEXT],
        trainers.BpeTrainer(vocab_size=120, show_progress=False),
    )
    bpe = json.loads(trained.to_str())["model"]
    pieces = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    if "\u2581" not in pieces:
        pieces.append("\u2581")
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    tokenizer = Tokenizer(
        models.BPE(
            {name: index for index, name in enumerate(names)},
            [tuple(merge) for merge in bpe["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", "\u2581")
    if prefix_space:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces])
    else:
        tokenizer.normalizer = spaces
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*steps, decoders.Strip(" ", 1, 0)] if prefix_space else steps
    )
    tokenizer.add_special_tokens(_special([*special, *later]))
    if first is not None:
        _write_first(tokenizer, first)
    return tokenizer


def _write_first(tokenizer: Tokenizer, first: str) -> None:
    pairs = [(first, tokenizer.token_to_id(first))]
    template = processors.TemplateProcessing(
        single=f"{first} $A", pair=f"{first} $A {first} $B:1", special_tokens=pairs
    )
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), template]
    )
