"""The presets are complete settings that load, and the default campaign is one of them (1 s)."""

from pathlib import Path

import pytest

from distil_core.campaign.load import load_params_file

PROJECT = Path(__file__).parents[2]
PRESETS = sorted((PROJECT / "presets").glob("*.yaml"))


OWN_MODEL = "instruct"
"""The one whose paths are to be set; examples/ extend it."""


def test_there_is_one_for_each_domain_and_one_for_a_model_of_ones_own() -> None:
    assert [preset.stem for preset in PRESETS] == ["code", OWN_MODEL, "math", "science"]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_it_loads_and_its_contexts_fit(preset: Path) -> None:
    params = load_params_file(preset)
    assert params.base.kind == ("pretrained" if preset.stem == OWN_MODEL else "from_scratch")
    if preset.stem == OWN_MODEL:
        assert (params.problems.num_train, params.problems.num_eval) == ("all", "all")
        return
    per_campaign = params.num_iterations * params.sample.num_prompts
    assert per_campaign <= params.problems.num_train, "no problem is trained on twice"


def test_campaigns_have_names_of_their_own() -> None:
    names = {load_params_file(preset).campaign for preset in PRESETS}
    assert len(names) == len(PRESETS)


def test_the_settings_in_the_repository_are_the_math_preset() -> None:
    """Two files, one truth: change both, or neither."""
    math = (PROJECT / "presets" / "math.yaml").read_bytes()
    assert (PROJECT / "params.yaml").read_bytes() == math
