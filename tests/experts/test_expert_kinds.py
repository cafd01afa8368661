"""White-box and oracle experts, and labels as stored distributions (about 1 s)."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distil_core.config.models import Component, TabulateParams
from distil_core.errors import ConfigError, ExpertError
from distil_core.experts import EXPERTS, build_expert
from distil_core.experts.base import ExpertQuery
from distil_core.experts.labels import scored_labels
from distil_core.policy.model import save_policy
from distil_core.policy.tokenizer import character_tokenizer, encode_text
from distil_core.problems.base import Problem
from distil_core.progress import no_progress

SOURCE = {
    "name": "chain_arithmetic",
    "options": {"num_operations": 3, "modulus": 7, "demonstrator_slip_probability": 0.0},
}


def tabulate(name: str, **options: Any) -> TabulateParams:
    component = Component(name=name, options=options)
    return TabulateParams(expert=component, top_k=200, top_p=1.0, rows_per_shard=8)


def test_white_box_gives_the_other_checkpoints_distributions(
    policy_dir: Path, new_model: Callable[..., Any], tokenizer: Any, compute: Any, tmp_path: Path
) -> None:
    other = new_model(seed=3)
    # Dropout in the saved settings is never active in an expert.
    other.config.attention_dropout = 0.9
    save_policy(other, tokenizer, tmp_path / "other")
    params = tabulate("white_box", path=str(tmp_path / "other"), batch_size=4)
    expert = build_expert(params, policy_dir, compute, 64)
    context = encode_text(tokenizer, "1+2=|")
    query = ExpertQuery(context, encode_text(tokenizer, "03"))
    [answer], [again] = (expert.answer([query], no_progress) for _ in range(2))
    reference = new_model(seed=3)
    with torch.no_grad():
        logits = reference(torch.tensor([[*context, *query.response_ids]])).logits[0]
    expected = torch.log_softmax(logits[len(context) - 1 : -1].double(), dim=-1)
    found = torch.full_like(expected, -math.inf)
    ids = torch.from_numpy(answer.distribution.token_ids).long().reshape(2, -1)
    found.scatter_(1, ids, torch.from_numpy(answer.distribution.logprobs).double().reshape(2, -1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(answer.distribution.logprobs, again.distribution.logprobs)


def test_white_box_refuses_another_tokenizer_and_a_missing_folder(
    policy_dir: Path, new_model: Callable[..., Any], compute: Any, tmp_path: Path
) -> None:
    save_policy(new_model(), character_tokenizer("\u00e9"), tmp_path / "other")
    params = tabulate("white_box", path=str(tmp_path / "other"), batch_size=4)
    with pytest.raises(ExpertError, match=r"another tokenizer .*\(expert 'black_box'\)"):
        build_expert(params, policy_dir, compute, 64)
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(ConfigError, match="is no folder"):
        build_expert(params, policy_dir, compute, 64)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        # 3+5-1+2 modulo 7 from the attempt's own previous line; then the end.
        (["1", "0", "2", "<|end|>"], ["1", "0", "2", "<|end|>"]),
        (["4", "0", "2", "<|end|>"], ["1", "3", "2", "<|end|>"]),
        # Cut short, too long, and with a special token where a character belongs.
        (list("1"), ["1"]),
        (list("10211"), ["1", "0", "2", "<|end|>", "<|end|>"]),
        (["<|pad|>", "0", "2", "<|end|>"], ["1", "0", "2", "<|end|>"]),
    ],
)
def test_oracle_labels_every_state_of_any_response(
    policy_dir: Path, tokenizer: Any, compute: Any, response: list[str], expected: list[str]
) -> None:
    expert = build_expert(
        tabulate("oracle", source=SOURCE, label_smoothing=0.0), policy_dir, compute, 64
    )
    problem = Problem("3+5-1+2=", "102")
    query = ExpertQuery([], tokenizer.convert_tokens_to_ids(response), problem=problem)
    [answer] = expert.answer([query], no_progress)
    assert tokenizer.convert_ids_to_tokens(answer.distribution.token_ids.tolist()) == expected
    assert answer.distribution.logprobs.tolist() == [0.0] * len(response)
    assert not expert.needs_feedback


def test_oracle_with_label_smoothing_is_a_distribution(
    policy_dir: Path, tokenizer: Any, compute: Any
) -> None:
    params = tabulate("oracle", source=SOURCE, label_smoothing=0.2)
    expert = build_expert(params, policy_dir, compute, 64)
    query = ExpertQuery([], encode_text(tokenizer, "1"), problem=Problem("3+5-1+2=", "102"))
    [answer] = expert.answer([query], no_progress)
    even = 0.2 / len(tokenizer)
    assert np.exp(answer.distribution.logprobs) == pytest.approx([0.8 + even])
    tail = 0.2 - even
    assert np.exp(answer.distribution.tail_logprobs_t) == pytest.approx([tail])


def test_oracle_needs_a_source_that_knows(policy_dir: Path, compute: Any) -> None:
    files = {"path": "x", "sha256": ""}
    fields = {"prompt_field": "q", "reference_field": "a"}
    source = {"name": "jsonl", "options": {"train": files, "eval": files, **fields}}
    params = tabulate("oracle", source=source, label_smoothing=0.0)
    with pytest.raises(ConfigError, match=r"'jsonl' has none"):
        build_expert(params, policy_dir, compute, 64)
    with pytest.raises(ConfigError, match="unknown problem source"):
        EXPERTS.options("oracle", {"source": {"name": "nothing"}, "label_smoothing": 0.0})


def test_labels_keep_the_fewest_ids_that_hold_top_p() -> None:
    states = [{7: 0.5, 3: 0.25, 9: 0.25}, {}, {4: 1.0}]
    scored = scored_labels(states, 0.0, 10, top_k=8, top_p=0.6)
    assert scored.counts_t.tolist() == [2, 0, 1]
    # Of equal masses the lower id comes first.
    assert scored.token_ids.tolist() == [7, 3, 4]
    np.testing.assert_allclose(np.exp(scored.logprobs), [0.5, 0.25, 1.0])
    np.testing.assert_allclose(np.exp(scored.tail_logprobs_t), [0.25, 0.0, 0.0])
    whole = scored_labels(states, 0.1, 10, top_k=2, top_p=1.0)
    assert whole.counts_t.tolist() == [2, 0, 1]
    sums = np.exp(whole.tail_logprobs_t).astype(np.float64)
    sums += [sum(np.exp(whole.logprobs[:2])), 0.0, np.exp(whole.logprobs[2])]
    np.testing.assert_allclose(sums, [1.0, 0.0, 1.0], atol=1e-6)
