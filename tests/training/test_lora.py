"""Adapters train on frozen weights and end in an ordinary policy, exactly (20 s)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from training_rows import make_rows

from distil_core.campaign.load import parse_params
from distil_core.config.models import LoraParams, TrainParams
from distil_core.errors import ConfigError, TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.policy.model import load_model, save_policy
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.lora import Adapters
from distil_core.training.resume import ResumePoint, fingerprint
from distil_core.training.state import TrainingSetup
from distil_core.training.trainer import train

LORA = {"rank": 4, "alpha": 6.0, "target_modules": ["q_proj", "v_proj", "down_proj"]}


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


@pytest.fixture(scope="module")
def rows(new_model: Any) -> FeedbackRows:
    return make_rows(new_model)


def run(
    settings: dict[str, Any],
    model: Any,
    rows: FeedbackRows,
    resume: ResumePoint | None = None,
    kill_after: int | None = None,
    seed: int = 7,
    **changes: Any,
) -> list[dict[str, float]]:
    def progress(done: int, total: int) -> None:
        if done == kill_after:
            raise Killed

    values = {"num_steps": 6, "batch_rollouts": 8, "learning_rate": 0.02, "lora": LORA, **changes}
    objective = OBJECTIVES.build("forward_cross_entropy", {"weight": 0.0})
    params = TrainParams(**{**settings["train"], **values})
    return train(model, rows, objective, TrainingSetup(params, seed), progress, resume=resume)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def is_target(name: str) -> bool:
    return any(f".{target}." in name for target in LORA["target_modules"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merging_adds_the_scaled_product_to_the_targets_only(
    new_model: Any, dtype: torch.dtype
) -> None:
    model = new_model(0).to(dtype)
    before = weights(model)
    adapters = Adapters(model, LoraParams(**LORA), 3)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert len(layers) == 2 * 3
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * len(layers)
    assert all("lora_" in name for name in trained)
    expected = dict(before)
    for name, layer in layers.items():
        a_rd, b_or = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert a_rd.dtype == dtype
        assert not b_or.any()
        b_or.data = torch.randn(b_or.shape, dtype=dtype)
        expected[f"{name}.weight"] = before[f"{name}.weight"] + (b_or @ a_rd).detach() * 1.5
    ids = torch.tensor([[5, 9, 14, 33, 7]])
    with torch.no_grad():
        adapted_logits = model(ids).logits
        adapters.merge()
        torch.testing.assert_close(model(ids).logits, adapted_logits, rtol=1e-4, atol=1e-4)
    after = weights(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], expected[name]) for name in expected)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in before if is_target(name)}


def test_training_lowers_the_loss_and_ends_in_an_ordinary_policy(
    settings: dict[str, Any],
    new_model: Any,
    rows: FeedbackRows,
    tokenizer: Any,
    compute: Any,
    tmp_path: Path,
) -> None:
    model = new_model(0)
    before = weights(model)
    curve = run(settings, model, rows, num_steps=40)
    kl = [step["cross_entropy"] - step["expert_entropy"] for step in curve]
    assert sum(kl[-5:]) < 0.7 * sum(kl[:5]), kl
    after = weights(model)
    assert not model.training
    assert not any(isinstance(module, LoraLayer) for module in model.modules())
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) != is_target(name), name
    save_policy(model, tokenizer, tmp_path / "policy")
    assert not list((tmp_path / "policy").glob("adapter*"))
    loaded = load_model(tmp_path / "policy", compute)
    assert type(loaded) is type(model)
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights(loaded).items())
    # The next iteration: fresh adapters on the merged weights, by the same loop.
    run(settings, loaded, rows, num_steps=2)
    assert any(not torch.equal(tensor, after[name]) for name, tensor in weights(loaded).items())


def test_adapters_depend_on_the_seed_and_not_on_global_state(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    found = []
    for noise, seed in ((1, 7), (2, 7), (2, 8)):
        torch.manual_seed(noise)
        model = new_model(0)
        state = torch.get_rng_state()
        Adapters(new_model(0), LoraParams(**LORA), 1)
        assert torch.equal(torch.get_rng_state(), state)
        run(settings, model, rows, seed=seed, num_steps=2)
        found.append(weights(model))
    first, same, other = found
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("step", [1, 3, 6])
@pytest.mark.parametrize(
    "changes",
    [{}, {"micro_batch_rollouts": 3, "activation_checkpointing": True, "layout": "packed"}],
    ids=["plain", "in parts"],
)
def test_interrupted_training_ends_in_the_same_bytes(
    settings: dict[str, Any],
    new_model: Any,
    rows: FeedbackRows,
    tmp_path: Path,
    step: int,
    changes: dict[str, Any],
) -> None:
    """With dropout in the adapters."""
    changes = {"lora": {**LORA, "dropout": 0.3}, **changes}

    def point() -> ResumePoint:
        return ResumePoint(tmp_path / "state.safetensors", fingerprint(name="this"), 0.0)

    whole, killed, resumed = new_model(0), new_model(0), new_model(0)
    curve = run(settings, whole, rows, **changes)
    with pytest.raises(Killed):
        run(settings, killed, rows, point(), step, **changes)
    torch.manual_seed(99)
    assert run(settings, resumed, rows, point(), **changes) == curve
    same = weights(resumed)
    assert all(torch.equal(tensor, same[name]) for name, tensor in weights(whole).items())


@pytest.mark.parametrize(
    "changes",
    [{"micro_batch_rollouts": 3}, {"activation_checkpointing": True}, {"layout": "packed"}],
    ids=lambda changes: next(iter(changes)),
)
def test_ways_to_save_memory_train_adapters_alike(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows, changes: dict[str, Any]
) -> None:
    whole, parts = new_model(0), new_model(0)
    run(settings, whole, rows)
    run(settings, parts, rows, **changes)
    for mine, theirs in zip(weights(parts).values(), weights(whole).values(), strict=True):
        if "activation_checkpointing" in changes:
            assert torch.equal(mine, theirs)
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("w_proj", "names no linear layers of LlamaForCausalLM; it has .*down_proj.*q_proj"),
        ("proj", "names no linear layers"),
        ("mlp", "names no linear layers"),
        ("embed_tokens", "names no linear layers"),
        ("lm_head", "is also another layer's"),
    ],
)
def test_a_target_that_cannot_be_adapted_is_refused(
    new_model: Any, target: str, message: str
) -> None:
    model = new_model(0)
    before = weights(model)
    with pytest.raises(TrainingError, match=message):
        Adapters(model, LoraParams(**{**LORA, "target_modules": ["q_proj", target]}), 1)
    assert weights(model).keys() == before.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": {**LORA, "rank": 0}}, "rank"),
        ({"lora": {**LORA, "alpha": 0}}, "alpha"),
        ({"lora": {**LORA, "dropout": 1.0}}, "dropout"),
        ({"lora": {**LORA, "target_modules": []}}, "target_modules"),
        ({"lora": {**LORA, "bias": "all"}}, "bias"),
        ({"lora": {**LORA, "target_modules": ["lm_head"]}}, "'lm_head' is no linear layer.*q_proj"),
        ({"lora": LORA, "average_decay": 0.9}, "average of products"),
    ],
)
def test_impossible_settings_are_refused_at_load(
    settings: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    settings["train"] |= changes
    with pytest.raises(ConfigError, match=message):
        parse_params(settings, "params.yaml")


def test_settings_without_adapters_stay_valid(settings: dict[str, Any]) -> None:
    del settings["train"]["layout"]
    params = parse_params(settings, "params.yaml").train
    assert params.lora is None
    assert params.layout == "padded"
    settings["train"]["lora"] = {**LORA, "target_modules": ["layers.0.self_attn.q_proj"]}
    assert parse_params(settings, "params.yaml").train.lora is not None
