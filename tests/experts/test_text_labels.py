"""Labels from text through tokenizers that are not one token a character."""

import copy
from typing import Any

import pytest

from distil_core.experts._text_labels import TextLabels
from distil_core.experts.response_record import Completion
from distil_core.policy.conventions import Conventions, register_conventions
from distil_core.policy.tokenizer import encode_text


@pytest.fixture(scope="module")
def byte_level() -> Any:
    """Bytes and few merges, so that a character may be several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    backend.train_from_iterator(["the answer is twelve, the answer"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


@pytest.fixture(scope="module")
def lower_casing() -> Any:
    """Encodes another text than the one it is given."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<|end|>", *"abcdefghijklmnopqrstuvwxyz "]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(letters)}, "a"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


def test_tokens_after_a_state_spell_what_was_written(byte_level: Any) -> None:
    labels = TextLabels(byte_level)
    prefix = byte_level.encode("the answer")
    tokens = labels.tokens(prefix, Completion(" is 12\u00e9", "stop", None))
    assert tokens[-1] == byte_level.eos_token_id
    assert byte_level.decode([*prefix, *tokens[:-1]]) == "the answer is 12\u00e9"
    assert not any(labels.counts.values())


def test_a_state_within_a_character_is_not_asked_about(byte_level: Any) -> None:
    labels = TextLabels(byte_level)
    whole = byte_level.encode("is \u4e16")
    assert labels.prefix_text(whole) == "is \u4e16"
    assert labels.prefix_text(whole[:-1]) is None
    assert labels.counts["unwritable_states"] == 1


def test_tokens_that_spell_another_text_are_no_label(lower_casing: Any) -> None:
    labels = TextLabels(lower_casing)
    assert labels.tokens([1, 2], Completion("yes", "stop", None))
    assert labels.tokens([1, 2], Completion("Yes", "stop", None)) == []
    assert labels.counts["misaligned"] == 1


def test_a_finished_text_ends_as_a_turn_of_the_chat_does(byte_level: Any) -> None:
    tokenizer = copy.deepcopy(byte_level)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|im_end|>\n{% endfor %}"
    turn_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    register_conventions(tokenizer, Conventions((tokenizer.eos_token_id, turn_end)))
    labels = TextLabels(tokenizer)
    assert labels.tokens([], Completion("ab", "stop", None))[-1] == turn_end
    # Whichever end the student drew, its state reads as the text before it.
    for end in (turn_end, tokenizer.eos_token_id):
        assert labels.prefix_text([*encode_text(tokenizer, "ab"), end]) == "ab"
