"""An expert with the student's tokenizer that ends its responses in another way (about 5 s)."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from distil_core.config.models import Component, TabulateParams
from distil_core.engines.base import ScoredResponse
from distil_core.errors import ExpertError
from distil_core.experts import build_expert
from distil_core.experts.base import ExpertQuery
from distil_core.experts.end_tokens import OtherEnds
from distil_core.policy.tokenizer import encode_text, load_tokenizer
from distil_core.progress import no_progress
from distil_core.testing.distributions import require_distributions

sys.path.append(str(Path(__file__).parents[1] / "policy"))
from tiny_models import chat_tokenizer, edit_json, make_checkpoint

FOREIGN, END, VOCABULARY = (7, 8), 5, 10


@pytest.fixture
def base_student(tmp_path: Path) -> Path:
    """Ends in <|endoftext|>, which it pads with too."""
    return make_checkpoint(tmp_path / "student", chat_tokenizer())


@pytest.fixture
def chat_expert(tmp_path: Path) -> Path:
    """The same tokens; ends in <|im_end|>, pads with another token, and is padded."""
    tokenizer = chat_tokenizer()
    ends = {"eos_token_id": [tokenizer.convert_tokens_to_ids("<|im_end|>")]}
    folder = make_checkpoint(tmp_path / "expert", tokenizer, ends, vocabulary_size=300)
    special = {"eos_token": "<|im_end|>", "pad_token": "<s>"}
    edit_json(folder / "tokenizer_config.json", special)
    return folder


def white_box(folder: Path) -> TabulateParams:
    expert = Component(name="white_box", options={"path": str(folder), "batch_size": 4})
    return TabulateParams(expert=expert, top_k=500, top_p=1.0, rows_per_shard=8)


@torch.inference_mode()
def test_its_end_is_the_students(base_student: Path, chat_expert: Path, compute: Any) -> None:
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(base_student)
    end, foreign = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    expert = build_expert(white_box(chat_expert), base_student, compute, 64)
    context = encode_text(tokenizer, "1+2=")
    query = ExpertQuery(context, [*encode_text(tokenizer, "3"), end])
    [answer] = expert.answer([query], no_progress)
    model = AutoModelForCausalLM.from_pretrained(chat_expert)
    logits = model(torch.tensor([[*context, *query.response_ids]])).logits[0, len(context) - 1 : -1]
    expected = torch.log_softmax(logits[:, : len(tokenizer)].double(), -1).numpy()
    expected[:, end] = np.logaddexp(expected[:, end], expected[:, foreign])
    expected[:, foreign] = -np.inf
    found = np.full_like(expected, -np.inf)
    counts = answer.distribution.counts_t
    assert counts.tolist() == [len(tokenizer) - 1] * 2
    rows = np.repeat(np.arange(2), counts)
    found[rows, answer.distribution.token_ids] = answer.distribution.logprobs
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.isneginf(answer.distribution.tail_logprobs_t).all()


def test_what_it_wrote_ends_as_the_student_would(base_student: Path, chat_expert: Path) -> None:
    student, expert = load_tokenizer(base_student), load_tokenizer(chat_expert)
    ends = OtherEnds.between(student, expert)
    assert ends is not None
    end, foreign = student.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert ends.in_response([3, foreign]) == [3, end]
    assert ends.in_response([foreign, 3]) == [foreign, 3]
    assert ends.in_response([]) == []
    assert OtherEnds.between(student, student) is None
    assert OtherEnds.between(expert, expert) is None


def test_other_tokens_are_refused(base_student: Path, tmp_path: Path, compute: Any) -> None:
    tokenizer = chat_tokenizer()
    tokenizer.add_tokens(["<|turn|>"])
    other = make_checkpoint(tmp_path / "other", tokenizer)
    edit_json(other / "generation_config.json", {"eos_token_id": tokenizer.eos_token_id})
    with pytest.raises(ExpertError, match="another tokenizer"):
        build_expert(white_box(other), base_student, compute, 64)


@given(
    logits=st.lists(
        st.lists(st.floats(-9, 9), min_size=VOCABULARY, max_size=VOCABULARY), min_size=1, max_size=4
    ),
    top_k=st.integers(1, VOCABULARY),
    top_p=st.floats(0.1, 1.0),
)
def test_every_distribution_stays_one(logits: list[list[float]], top_k: int, top_p: float) -> None:
    from distil_core.engines._scoring import top_distributions

    logits_nv = torch.tensor(logits, dtype=torch.float64)
    [scored] = top_distributions(logits_nv, [len(logits)], top_k, top_p)
    found = OtherEnds(FOREIGN, END).in_distribution(scored)
    require_distributions(found, len(logits), top_k, top_p, VOCABULARY)
    assert not set(found.token_ids.tolist()) & set(FOREIGN)
    for before, after in zip(states(scored), states(found), strict=True):
        ends = [before[token] for token in (*FOREIGN, END) if token in before]
        kept = {token: value for token, value in before.items() if token not in (*FOREIGN, END)}
        expected = kept | ({END: logsumexp(ends)} if ends else {})
        assert after == pytest.approx(expected, abs=1e-6)


def states(scored: ScoredResponse) -> list[dict[int, float]]:
    starts = np.concatenate([[0], np.cumsum(scored.counts_t)])
    return [
        dict(zip(scored.token_ids[a:b].tolist(), scored.logprobs[a:b].tolist(), strict=True))
        for a, b in pairwise(starts)
    ]


def test_an_answer_without_labels_stays_silent() -> None:
    silent = ScoredResponse(
        np.zeros(3, np.int32),
        np.zeros(0, np.int32),
        np.zeros(0, np.float32),
        np.full(3, -np.inf, np.float32),
    )
    assert OtherEnds(FOREIGN, END).in_distribution(silent).is_silent
