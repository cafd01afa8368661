"""The presets are complete settings that load, and the default campaign is one of them (1 s)."""

from pathlib import Path

import pytest

from distil_core.campaign.load import load_params_file
from distil_core.objectives.forward_cross_entropy import Options as ForwardCrossEntropyOptions

PROJECT = Path(__file__).parents[2]
PRESETS = sorted((PROJECT / "presets").glob("*.yaml"))


OWN_MODEL = "instruct"
"""The one whose paths are to be set; examples/ extend it."""
METHODS = ("opsd", "paper", "sdpo")
"""Published methods, which extend it."""


def test_there_is_one_for_each_domain_and_method_and_one_for_a_model_of_ones_own() -> None:
    domains = ("code", "math", "science", "tools")
    assert [preset.stem for preset in PRESETS] == sorted([*domains, OWN_MODEL, *METHODS])


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_it_loads_and_its_contexts_fit(preset: Path) -> None:
    params = load_params_file(preset)
    is_domain = preset.stem not in (OWN_MODEL, *METHODS)
    assert params.base.kind == ("from_scratch" if is_domain else "pretrained")
    if not is_domain:
        assert (params.problems.num_train, params.problems.num_eval) == ("all", "all")
        return
    per_campaign = params.num_iterations * params.sample.num_prompts
    assert per_campaign <= params.problems.num_train, "no problem is trained on twice"


@pytest.mark.parametrize("name", ["paper", "sdpo"])
def test_one_update_on_each_fresh_batch_of_32_prompts_and_8_rollouts(name: str) -> None:
    params = load_params_file(PROJECT / "presets" / f"{name}.yaml")
    sample, train, tabulate = params.sample, params.train, params.tabulate
    assert (sample.num_prompts, sample.num_rollouts) == (32, 8)
    assert (train.num_steps, train.batch_rollouts, train.num_tables) == (1, 256, 1)
    assert (train.learning_rate, train.warmup_steps) == (1e-5, 0)
    assert (tabulate.top_k, tabulate.top_p) == (100, 1.0)
    assert train.objective.options["is_clip"] == 2.0


def test_the_papers_objective_and_expert() -> None:
    params = load_params_file(PROJECT / "presets" / "paper.yaml")
    options = ForwardCrossEntropyOptions(**params.train.objective.options)
    assert params.train.objective.name == "forward_cross_entropy"
    assert (options.weight, options.discount, options.horizon) == (1.0, 1.0, None)
    assert (options.cost, options.baseline) == ("cross_entropy", "none")
    # With one update an iteration the policy that sampled is the live one.
    assert params.tabulate.expert.options["weights"] == "snapshot"


def test_sdpo_is_reverse_kl_toward_a_moving_average_that_reads_a_siblings_solution() -> None:
    params = load_params_file(PROJECT / "presets" / "sdpo.yaml")
    assert params.train.objective.name == "reverse_kl"
    assert params.train.average_decay == pytest.approx(1 - 0.05)
    assert params.tabulate.expert.options["weights"] == "ema"
    assert params.consult.peer_solution
    assert "{peer_solution}" in params.context.expert_template
    assert "{tool_output}" not in params.context.expert_template


def test_opsd_is_jensen_shannon_toward_a_reader_of_the_reference() -> None:
    params = load_params_file(PROJECT / "presets" / "opsd.yaml")
    assert params.train.objective.name == "jensen_shannon"
    assert params.consult.reference_correction
    assert "{expert_correction}" in params.context.expert_template


def test_campaigns_have_names_of_their_own() -> None:
    names = {load_params_file(preset).campaign for preset in PRESETS}
    assert len(names) == len(PRESETS)


def test_the_settings_in_the_repository_are_the_math_preset() -> None:
    """Two files, one truth: change both, or neither."""
    math = (PROJECT / "presets" / "math.yaml").read_bytes()
    assert (PROJECT / "params.yaml").read_bytes() == math
