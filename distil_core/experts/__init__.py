"""Experts: they say what they would do at the student's states. One module each, found by name."""

from dataclasses import replace
from pathlib import Path

from distil_core.components import ComponentPlace
from distil_core.config.models import Component, ComputeParams, TabulateParams
from distil_core.engines.base import SamplingSettings
from distil_core.experts.base import Expert, ExpertOptions, ExpertSetting
from distil_core.registry import Registry

EXPERTS: Registry[ExpertOptions, Expert] = Registry(
    ComponentPlace(
        "expert",
        "distil_core.experts",
        "distil.experts",
        ("base", "end_tokens", "labels", "programs", "response_record"),
    ),
    ExpertOptions,
    Expert,
    {"setting": "ExpertSetting"},
)


def build_expert(
    params: TabulateParams,
    policy_dir: Path,
    compute: ComputeParams,
    max_context_tokens: int,
    record_dir: Path | None = None,
    seed: int = 0,
) -> Expert:
    """The expert that `tabulate` names. policy_dir: the checkpoint its weights come from, where it
    uses weights of the campaign. record_dir, seed: see `ExpertSetting`."""
    setting = ExpertSetting(
        policy_dir=policy_dir,
        compute=compute,
        max_context_tokens=max_context_tokens,
        top_k=params.top_k,
        top_p=params.top_p,
        record_dir=record_dir,
        seed=seed,
    )
    return EXPERTS.build(params.expert.name, params.expert.options, setting=setting)


def sampling_of_expert(expert: Component, settings: SamplingSettings) -> SamplingSettings:
    """How the expert's own responses are sampled where the student's are by `settings`: from the
    distributions that are stored of it."""
    temperature = EXPERTS.options(expert.name, expert.options).distribution_temperature
    return replace(settings, temperature=settings.temperature * temperature)
