"""What is compared: each objective with its options, and the states it is trained at."""

from dataclasses import dataclass
from typing import Any, Literal

# As in params.yaml. Divided by tokens in all of them, so that learning rates mean the same.
_TOKENS: dict[str, Any] = {"loss_normalisation": "tokens"}
_FULL_GRADIENT = {
    **_TOKENS,
    "weight": 1.0,
    "cost": "kl_divergence",
    "baseline": "leave_one_out",
    "advantage_normalisation": "none",
}


@dataclass(frozen=True)
class Method:
    """label: in tables and figures. objective, options: of distil_core.objectives.

    states: 'student' trains at its own rollouts' states. 'gold' is the control: as many gold
    solutions as there are rollouts, each of another problem, in place of the rollouts.
    """

    label: str
    objective: str
    options: dict[str, Any]
    states: Literal["student", "gold"] = "student"


METHODS = {
    "forward_local": Method("forward CE, local", "forward_cross_entropy", {**_TOKENS, "weight": 0}),
    "forward_full": Method("forward CE, full gradient", "forward_cross_entropy", _FULL_GRADIENT),
    # Two more ways to set the credit, since its defaults are chosen from this study.
    "forward_full_entropy": Method(
        "forward CE, full, cross-entropy cost",
        "forward_cross_entropy",
        {**_FULL_GRADIENT, "cost": "cross_entropy"},
    ),
    "forward_full_scaled": Method(
        "forward CE, full, scaled, weight 0.3",
        "forward_cross_entropy",
        {**_FULL_GRADIENT, "weight": 0.3, "advantage_normalisation": "standard_deviation"},
    ),
    "reverse_kl": Method("reverse KL", "reverse_kl", _TOKENS),
    "sampled_reverse_kl": Method("sampled reverse KL", "sampled_reverse_kl", _TOKENS),
    "jensen_shannon": Method("Jensen-Shannon", "jensen_shannon", _TOKENS),
    "grpo": Method("GRPO", "grpo", _TOKENS),
    "behaviour_cloning": Method("behaviour cloning", "behaviour_cloning", _TOKENS),
    "blend": Method(
        "blend, half GRPO",
        "blend",
        {"distillation_options": _FULL_GRADIENT, "grpo_options": _TOKENS, "reward_weight": 0.5},
    ),
    "gold": Method("gold solutions (control)", "behaviour_cloning", _TOKENS, states="gold"),
}

REFERENCE = "forward_full"
"""The method that all others are compared with, paired by seed."""
