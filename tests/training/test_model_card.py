"""The card in a policy's folder: the same on every run, and no promise of scores (1 s)."""

from pathlib import Path

import yaml

from distil_core.campaign.load import parse_iteration_params
from distil_core.training.model_card import model_card

PROJECT = Path(__file__).parents[2]
CONTEXT = {
    "num_rollouts": 1536,
    "num_without_verdict": 2,
    "num_without_feedback": 3,
    "tabulate": {"expert": {"name": "self", "options": {"weights": "frozen"}}},
}


def card(iteration: int, **train: object) -> str:
    values = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["train"] |= train
    values |= {"iteration": iteration, "stage_versions": {}}
    params = parse_iteration_params(values, "x")
    table = {"data/iterations/002/feedback": "abc"}
    return model_card(iteration, params.seed, params.train, CONTEXT, table)


def test_it_says_what_training_knows() -> None:
    text = card(2)
    header = yaml.safe_load(text.split("---")[1])
    assert header["library_name"] == "transformers"
    assert "# Policy 002" in text
    assert "what the gate of iteration 001 handed over, `data/iterations/001/handover`" in text
    assert "`forward_cross_entropy` weight 1.0" in text
    assert "1536 of its parent's own" in text
    assert "| expert | `self` weights frozen |" in text
    assert "2 without a verdict, 3 without feedback" in text
    assert "- `data/iterations/002/feedback` `abc`" in text
    assert "`data/iterations/002/metrics.json`" in text
    assert "pass@1 " not in text
    assert "the base policy, `data/policy-000`" in card(1)


def test_it_is_the_same_each_time() -> None:
    assert card(2) == card(2)


def test_it_says_that_adapters_were_trained() -> None:
    lora = {"rank": 8, "alpha": 16, "target_modules": ["q_proj", "v_proj"]}
    row = "| trained | LoRA of rank 8, alpha 16, on q_proj, v_proj; merged into these weights |\n"
    assert row in card(2, lora=lora)
    assert card(2, lora=lora).replace(row, "") == card(2)
