"""What an expert with other tokens says in the student's, exactly, and how answers are kept (about
20 s)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served_lab import byte_tokenizer

from distil_core.errors import DataError, ExpertError
from distil_core.experts._served_alignment import OtherTokens, TokenMap, TokenTexts
from distil_core.experts._served_answers import (
    Distribution,
    ListedTokens,
    distributions,
    read_listed,
    stored,
    unpacked,
)
from distil_core.experts._served_options import Options
from distil_core.experts._served_server import Prompt
from distil_core.experts.base import ExpertQuery, ExpertSetting
from distil_core.policy.tokenizer import character_tokenizer, encode_text
from distil_core.testing.distributions import require_distributions

LETTERS = "ab"


def longest_match(words: list[str]) -> Any:
    """A tokenizer that takes the longest of these words that a text goes on with."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    names = ["<|pad|>", "<|end|>", "<|unknown|>", *LETTERS, "\n", *words]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    model = models.WordPiece(
        vocabulary,
        unk_token="<|unknown|>",
        continuing_subword_prefix="",
        max_input_chars_per_word=100,
    )
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        unk_token="<|unknown|>",
        clean_up_tokenization_spaces=False,
    )


def state(masses: dict[int, float], tail: float = 0.0) -> Distribution:
    ranked = sorted(masses.items(), key=lambda entry: -entry[1])
    ids = np.array([token for token, _ in ranked], np.int32)
    return Distribution(ids, np.log(np.array([mass for _, mass in ranked])), tail)


def masses_of(distribution: Distribution | None) -> dict[int, float]:
    if distribution is None:
        return {}
    return dict(zip(distribution.ids.tolist(), np.exp(distribution.logprobs), strict=True))


words = st.lists(st.text(LETTERS, min_size=2, max_size=4), max_size=5)


@settings(max_examples=80, deadline=None)
@given(words, words, st.dictionaries(st.text(LETTERS, max_size=6), st.integers(1, 9), min_size=1))
def test_what_is_stored_is_what_the_student_would_begin_the_experts_texts_with(
    of_student: list[str], of_expert: list[str], weights: dict[str, int]
) -> None:
    """For every set of texts that the expert may write: its distribution over its next token gives,
    for each token of the student's that is stored, the mass of the texts that begin with it."""
    student, expert = longest_match(of_student), longest_match(of_expert)
    total = sum(weights.values())
    said: dict[int, float] = {}
    expected: dict[int, float] = {}
    for text, weight in weights.items():
        for tokenizer, masses in ((expert, said), (student, expected)):
            first = [*encode_text(tokenizer, text), tokenizer.eos_token_id][0]
            masses[first] = masses.get(first, 0.0) + weight / total
    mapped = TokenMap(student, expert).mapped(state(said))
    for token, mass in masses_of(mapped).items():
        assert mass == pytest.approx(expected[token])
    if mapped is not None:
        assert mapped.tail == pytest.approx(1.0 - sum(masses_of(mapped).values()), abs=1e-12)
    if {*of_student} <= {*of_expert, *LETTERS}:
        # Each of the student's tokens is one of the expert's: nothing is uncertain.
        assert masses_of(mapped) == pytest.approx(expected)


def test_a_token_that_may_be_the_beginning_of_a_longer_one_is_left_to_the_tail() -> None:
    student, expert = longest_match(["ab", "abb", "ba"]), longest_match(["ab"])
    of_student, of_expert = student.get_vocab(), expert.get_vocab()
    said = {of_expert["ab"]: 0.5, of_expert["a"]: 0.2, of_expert["<|end|>"]: 0.2}
    mapped = TokenMap(student, expert).mapped(state(said, tail=0.1))
    # `ab` may become `abb`, `a` cannot become `ab`, which the expert writes at once.
    assert masses_of(mapped) == pytest.approx({of_student["a"]: 0.2, of_student["<|end|>"]: 0.2})
    assert mapped is not None
    assert mapped.tail == pytest.approx(0.6)
    only = TokenMap(student, expert).mapped(state({of_expert["ab"]: 1.0}))
    assert only is None


def test_tokens_that_are_no_text_or_not_the_students_are_left_to_the_tail() -> None:
    student, expert = character_tokenizer("\u00e9"), byte_tokenizer()
    token_map = TokenMap(student, expert)
    names = student.get_vocab()
    e_acute = encode_text(expert, "\u00e9")
    assert len(e_acute) == 2
    said = {
        e_acute[0]: 0.25,  # half a character
        expert.get_vocab()["<|turn|>"]: 0.125,
        expert.pad_token_id: 0.125,
        encode_text(expert, "the")[0]: 0.25,
        expert.eos_token_id: 0.25,
    }
    mapped = token_map.mapped(state(said))
    assert masses_of(mapped) == pytest.approx({names["t"]: 0.25, names["<|end|>"]: 0.25})
    latin = TokenMap(student, character_tokenizer("\u00f8"))
    foreign = character_tokenizer("\u00f8").get_vocab()["\u00f8"]
    assert latin.mapped(state({foreign: 1.0})) is None


def test_the_expert_reads_its_template_in_its_own_chat(tmp_path: Path, compute: Any) -> None:
    """What is filled in is content: it neither ends a turn nor opens a field."""
    student, expert = character_tokenizer("\u00e9"), byte_tokenizer()
    turn, end = expert.get_vocab()["<|turn|>"], expert.eos_token_id
    expert.chat_template = (
        "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant\n{% if plain %}!{% endif %}{% endif %}"
    )
    for tokenizer, name in ((student, "student"), (expert, "expert")):
        tokenizer.save_pretrained(tmp_path / name)
    setting = ExpertSetting(tmp_path / "student", compute, 64, top_k=8, top_p=1.0)
    response = [*encode_text(student, "4\u00e9"), student.eos_token_id]
    asked = ExpertQuery([], response, "1", values={"prompt": "<|end|>{tool_output}"})
    options = Options(
        base_url="http://127.0.0.1:1/v1",
        model="m",
        tokenizer=str(tmp_path / "expert"),
        template="Q: {prompt}",
        chat=True,
        chat_template_kwargs={"plain": True},
    )

    def prompt(options: Options) -> Prompt:
        return OtherTokens(options, student, expert, tmp_path / "expert", setting).prompt(asked)

    found = prompt(options)
    content = encode_text(expert, "<|end|>{tool_output}")
    assert end not in content
    expected = [turn, *encode_text(expert, "user\nQ: "), *content, end]
    expected += [turn, *encode_text(expert, "assistant\n!")]
    assert found.token_ids[: found.start] == expected
    assert found.token_ids[found.start :] == [*encode_text(expert, "4\u00e9"), end]
    plain = prompt(options.model_copy(update={"chat": False}))
    assert plain.token_ids[: plain.start] == [*encode_text(expert, "Q: "), *content]
    with pytest.raises(ExpertError, match="context of a rollout is empty"):
        prompt(options.model_copy(update={"chat": False, "template": "{tool_output}"}))


def test_sampled_answers_are_labels_where_their_first_token_is_certain() -> None:
    student, expert = longest_match(["ab", "abb"]), longest_match(["ba"])
    of_student, of_expert = student.get_vocab(), expert.get_vocab()
    a, b, ba, end = (of_expert[name] for name in ("a", "b", "ba", "<|end|>"))
    answers = [
        [a, b, a],  # ab a
        [a, b, b, a],  # abb a
        [a, b, b, end],
        [end],
        [a, b],  # cut: ab, or the beginning of abb
        [],
        [b, of_expert["<|pad|>"], a],
        [ba, ba],  # b ab a
    ]
    label = TokenMap(student, expert).sampled(answers)
    expected = {"abb": 0.4, "ab": 0.2, "b": 0.2, "<|end|>": 0.2}
    assert masses_of(label) == pytest.approx({of_student[one]: expected[one] for one in expected})
    assert label is not None
    assert label.tail == 0.0
    assert TokenMap(student, expert).sampled([[a], []]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12+3", [0, 1, 2, 3, 4]), ("\u00e9a", [0, None, 1, 2])],
)
def test_places_are_boundaries_between_characters(text: str, expected: list[int | None]) -> None:
    tokenizer = byte_tokenizer()
    texts = TokenTexts(tokenizer)
    ids = [token for character in text for token in encode_text(tokenizer, character)]
    assert texts.places(ids, text) == expected
    # From where the tokens spell another text on, there are none.
    other = text[:-1] + "x"
    assert texts.places(ids, other) == [*expected[:-1], None]


@given(st.text(max_size=30), st.text(alphabet=" \nthe12+", max_size=30))
@settings(deadline=None)
def test_places_of_any_text_are_those_of_its_prefixes(text: str, more: str) -> None:
    tokenizer = byte_tokenizer()
    texts, whole = TokenTexts(tokenizer), text.replace("\ufffd", "") + more
    ids = texts.tokens(whole)
    places = texts.places(ids, whole)
    assert (places[0], places[-1]) == (0, len(whole))
    for count, place in enumerate(places):
        if place is not None:
            assert texts.text(ids[:count]) == whole[:place]


@given(
    st.lists(st.lists(st.floats(-50, 0, width=32), min_size=1, max_size=4), max_size=4),
    st.randoms(use_true_random=False),
)
def test_what_is_recorded_is_what_was_read_to_the_bit(
    positions: list[list[float]], random: Any
) -> None:
    listed = ListedTokens(
        np.array([len(position) for position in positions], np.int32),
        np.array([random.randrange(10**6) for each in positions for _ in each], np.int32),
        np.array([logprob for position in positions for logprob in position], np.float32),
        np.array([random.choice([-1.5, -math.inf]) for _ in positions], np.float32),
    )
    found = unpacked(listed.packed())
    for name in ("counts_t", "token_ids", "logprobs", "given_logprobs_t"):
        np.testing.assert_array_equal(getattr(found, name), getattr(listed, name))


@pytest.mark.parametrize("entry", [None, {}, {"positions": 1, "data": "AAAA"}, {"positions": "1"}])
def test_what_was_not_packed_is_refused(entry: Any) -> None:
    with pytest.raises(DataError, match="damaged"):
        unpacked(entry)


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 30), st.integers(1, 8), st.floats(0.3, 1.0), st.integers(0, 2**31))
def test_a_list_of_the_most_likely_is_the_whole_distributions_beginning(
    vocabulary_size: int, top_k: int, top_p: float, seed: int
) -> None:
    """Against all probabilities, with a padded head: in float32, as a server gives them."""
    random = np.random.default_rng(seed)
    top_k, prompt = min(top_k, vocabulary_size), [0, int(random.integers(vocabulary_size))]
    logits = random.normal(0.0, 3.0, vocabulary_size + 5)
    logits[vocabulary_size:] -= 60.0
    logprobs = (logits - np.logaddexp.reduce(logits)).astype(np.float32)
    order = np.argsort(-logprobs)[:top_k]
    named = {str(token): {"logprob": float(logprobs[token])} for token in [prompt[1], *order]}
    answer = {"choices": [{"prompt_logprobs": [None, named]}]}
    [found] = distributions(read_listed(answer, prompt, 1, top_k, top_p), vocabulary_size)
    masses = np.exp(logprobs.astype(np.float64))
    before = np.cumsum(masses[order]) - masses[order]
    held = [token for token, mass in zip(order, before, strict=True) if mass < top_p or top_p == 1]
    kept = [token for token in held if token < vocabulary_size]
    expected = masses[:vocabulary_size]
    assert found.ids.tolist() == kept
    np.testing.assert_allclose(np.exp(found.logprobs), expected[kept], atol=1e-6)
    rest = expected.sum() - expected[kept].sum()
    assert found.tail == pytest.approx(rest, abs=2e-6)
    scored = stored([found, None], top_k, top_p)
    require_distributions(scored, 2, top_k, top_p, vocabulary_size)
    assert scored.counts_t[1] == 0


def test_a_tail_that_rounding_hides_is_as_large_as_is_certain() -> None:
    """The prompt's token is not listed, and all that is has mass 1 in float32."""
    named = {"2": {"logprob": -20.0}, "1": {"logprob": 0.0}}
    answer = {"choices": [{"prompt_logprobs": [None, named]}]}
    [found] = distributions(read_listed(answer, [0, 2], 1, 1, 1.0), 3)
    assert found.tail == pytest.approx(math.exp(-20.0))
    with pytest.raises(ExpertError, match="no token below 1"):
        distributions(read_listed(answer, [0, 2], 1, 1, 1.0), 1)
