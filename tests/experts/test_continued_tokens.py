"""A program's text in the student's tokens, through tokenizers with and without merges."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.experts._continued_tokens import ContinuedTokens
from distil_core.experts.programs.base import Text
from distil_core.policy.tokenizer import decode, encode_text

ALPHABET = "0124 \nae\u00e9="


def trained(prefix_space: bool = False, metaspace: bool = False) -> Any:
    """Merges over digits, spaces and lines, as real tokenizers have them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if metaspace:
        backend = Tokenizer(models.BPE(byte_fallback=True))
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
        )
        alphabet = list(ALPHABET)
        added = ["<|end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    else:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        added = ["<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320 if not metaspace else 300,
        initial_alphabet=alphabet,
        special_tokens=added,
        show_progress=False,
    )
    corpus = ["12 + 12 = 24\n\n124 = 124 and 0124 ea ee \u00e9a aa\n 12  24"] * 9
    backend.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


@pytest.fixture(scope="module")
def byte_level() -> Any:
    return trained()


@pytest.fixture(scope="module")
def metaspace() -> Any:
    return trained(metaspace=True)


@given(before=st.text(ALPHABET, max_size=8), after=st.text(ALPHABET, max_size=8))
def test_tokens_are_those_of_the_whole_text_wherever_it_has_a_boundary(
    byte_level: Any, before: str, after: str
) -> None:
    """At a state on the tokenizer's own path, the labels are that path, to its end."""
    whole = encode_text(byte_level, before + after)
    continued = ContinuedTokens(byte_level)
    for length in range(len(whole) + 1):
        prefix = decode(byte_level, whole[:length]) if length else ""
        if prefix.endswith("\ufffd"):
            assert not continued.is_writable(prefix)
            continue
        rest = (before + after)[len(prefix) :]
        found = continued.tokens(whole[:length], prefix, Text(rest))
        assert found == [*whole[length:], byte_level.eos_token_id]
    assert continued.counts["split_tokens"] == continued.counts["misaligned"] == 0


@given(
    pieces=st.lists(st.text(ALPHABET, min_size=1, max_size=3), max_size=5),
    after=st.text(ALPHABET, max_size=8),
)
def test_after_any_tokens_of_the_students_own_they_spell_the_text(
    byte_level: Any, pieces: list[str], after: str
) -> None:
    """The student need not write as its tokenizer would: each piece is encoded for itself."""
    prefix_ids = [token for piece in pieces for token in encode_text(byte_level, piece)]
    continued = ContinuedTokens(byte_level)
    found = continued.tokens(prefix_ids, "".join(pieces), Text(after))
    assert found[-1] == byte_level.eos_token_id
    assert decode(byte_level, [*prefix_ids, *found]) == "".join(pieces) + after


def test_within_a_token_of_the_whole_text_it_is_encoded_for_itself(byte_level: Any) -> None:
    [twelve], [hundred] = encode_text(byte_level, "12"), encode_text(byte_level, "124")
    assert twelve != hundred
    continued = ContinuedTokens(byte_level)
    found = continued.tokens([twelve], "12", Text("4"))
    assert found == [*encode_text(byte_level, "4"), byte_level.eos_token_id]
    assert continued.counts["split_tokens"] == 1
    # Written digit by digit, which its tokenizer would not: the boundary is in the whole text.
    digits = [token for digit in "12" for token in encode_text(byte_level, digit)]
    spaced = continued.tokens(digits, "12", Text(" 12"))
    assert spaced == [*encode_text(byte_level, "12 12")[1:], byte_level.eos_token_id]
    assert continued.counts["split_tokens"] == 1


def test_a_tokenizer_that_begins_texts_with_a_space_gets_none(metaspace: Any) -> None:
    continued = ContinuedTokens(metaspace)
    whole = encode_text(metaspace, "ea = 24")
    for length in range(1, len(whole)):
        prefix = decode(metaspace, whole[:length])
        found = continued.tokens(whole[:length], prefix, Text("ea = 24"[len(prefix) :]))
        assert found == [*whole[length:], metaspace.eos_token_id]
    # Without a boundary, too, no space comes in between.
    first = encode_text(metaspace, "1")
    assert decode(metaspace, first) == "1"
    found = continued.tokens(first, "1", Text("24"))
    assert decode(metaspace, [*first, *found]) == "124"


def test_an_unfinished_texts_last_token_is_no_label(byte_level: Any) -> None:
    continued = ContinuedTokens(byte_level)
    whole = encode_text(byte_level, "= 24")
    assert len(whole) > 1
    assert continued.tokens([], "", Text("= 24", ends=False)) == whole[:-1]
    assert continued.tokens([], "", Text("=", ends=False)) == []
    assert continued.tokens([], "", Text("")) == [byte_level.eos_token_id]
    assert continued.counts["cut"] == 1


def test_what_the_student_cannot_write_is_no_label(tokenizer: Any) -> None:
    continued = ContinuedTokens(tokenizer)
    assert continued.tokens([], "", Text("\u4e16")) == []
    assert continued.counts["unencodable"] == 1
