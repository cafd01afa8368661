"""Settings scaled down together stay settings that work, and no size grows."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from distil_core.campaign.load import load_params_file, parse_params
from distil_core.campaign.miniature import MAX_ITERATIONS, in_miniature
from distil_core.config.models import Params
from distil_core.errors import ConfigError

PROJECT = Path(__file__).parents[2]
PRESETS = [load_params_file(path) for path in sorted((PROJECT / "presets").glob("*.yaml"))]
SIZES = (
    "num_iterations",
    "problems.num_train",
    "problems.num_eval",
    "problems.num_warm_start",
    "problems.generalisation.num_problems",
    "base.batch_size",
    "base.warmup_steps",
    "base.num_corrections",
    "sample.num_prompts",
    "train.num_steps",
    "train.batch_rollouts",
    "train.micro_batch_rollouts",
    "train.warmup_steps",
)


def pretrained(warm_start: dict[str, Any]) -> Params:
    """The preset `instruct`, warm-started on 512 problems."""
    values = yaml.safe_load((PROJECT / "presets" / "instruct.yaml").read_text(encoding="utf-8"))
    values["problems"]["num_warm_start"] = 512
    values["base"]["warm_start"] = warm_start
    return parse_params(values, "test")


def test_a_pretrained_bases_warm_start_is_small_too() -> None:
    settings = {
        "phases": [{"num_steps": 64, "correction_fraction": 0.5}],
        "learning_rate": 1e-5,
        "warmup_steps": 8,
        "micro_batch_size": 16,
    }
    rows = settings | {"file": {"path": "rows.jsonl", "sha256": ""}}
    of_problems, of_rows = (
        in_miniature(pretrained(each), 2).base.warm_start for each in (settings, rows)
    )
    assert of_problems.num_steps == 64 * 128 // 512
    assert of_problems.warmup_steps == 2
    assert of_rows.num_steps == 1
    assert (of_rows.batch_size, of_rows.micro_batch_size) == (2, 2)


def value(params: Params, path: str) -> Any:
    found: Any = params.model_dump(mode="json")
    for part in path.split("."):
        found = None if found is None else found.get(part)
    return found


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(PRESETS), st.integers(1, 10_000))
def test_nothing_grows_and_all_of_it_works_together(params: Params, limit: int) -> None:
    small = in_miniature(params, limit)  # which checks that it works together
    for path in SIZES:
        before, after = value(params, path), value(small, path)
        assert (before is None) == (after is None)
        assert before in (None, "all") or after <= before, path
    assert small.sample.num_prompts == min(limit, params.sample.num_prompts)
    assert small.num_iterations <= MAX_ITERATIONS
    # Training goes over its rollouts about as often as before.
    passes, expected = (
        each.train.num_steps
        * each.train.batch_rollouts
        / (each.sample.num_prompts * each.sample.num_rollouts)
        for each in (small, params)
    )
    assert passes <= expected + 1
    changed = {"num_iterations", "problems", "base", "sample", "train"}
    kept = set(Params.model_fields) - changed
    assert small.model_dump(include=kept) == params.model_dump(include=kept)


def test_all_of_a_file_becomes_a_number() -> None:
    values = PRESETS[0].model_dump(mode="json")
    values["problems"] |= {"num_train": "all", "num_eval": "all"}
    small = in_miniature(parse_params(values, "x"), 8)
    assert (small.problems.num_train, small.problems.num_eval) == (16, 8)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="--limit must be at least 1, found 0"):
        in_miniature(PRESETS[0], 0)
