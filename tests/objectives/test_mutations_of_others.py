"""The other objectives, wrong in one place at a time, are caught."""

import pytest
from mutation import Mutation, fact_2_holds, others_hold

from distil_core.objectives import (
    behaviour_cloning,
    blend,
    grpo,
    jensen_shannon,
    reverse_kl,
    sampled_reverse_kl,
)
from distil_core.objectives.estimators import divergences, reductions

_SRKL = sampled_reverse_kl.SampledReverseKL
_GRPO = grpo.GroupRelativePolicyOptimisation

MUTATIONS = [
    Mutation(
        "reverse KL's arguments exchanged",
        fact_2_holds,
        reverse_kl.ReverseKL._divergences_bt,
        "student_logprobs=matched.student_logprobs_btk,\n        "
        "expert_logprobs=matched.expert_logprobs_btk",
        "student_logprobs=matched.expert_logprobs_btk.clamp(min=-30),\n        "
        "expert_logprobs=matched.student_logprobs_btk",
    ),
    Mutation(
        "Jensen-Shannon's expert side dropped",
        fact_2_holds,
        divergences.jensen_shannon_divergence,
        "expert_weight * expert_side + ",
        "",
    ),
    Mutation(
        "Jensen-Shannon against the expert, not the mixture",
        fact_2_holds,
        divergences.jensen_shannon_divergence,
        "(readable_logprobs - mixture)",
        "(readable_logprobs - readable_expert)",
    ),
    Mutation(
        "Jensen-Shannon's weight ignored",
        fact_2_holds,
        jensen_shannon.JensenShannon._divergences_bt,
        "expert_weight=self.options.expert_weight",
        "expert_weight=0.7",
    ),
    Mutation(
        "Jensen-Shannon's mixture weights exchanged",
        others_hold,
        divergences.jensen_shannon_divergence,
        "readable_expert + log_expert_weight, readable_logprobs + log_student_weight",
        "readable_expert + log_student_weight, readable_logprobs + log_expert_weight",
    ),
    Mutation(
        "Jensen-Shannon's sides weighted the other way",
        others_hold,
        divergences.jensen_shannon_divergence,
        "expert_weight * expert_side + (1.0 - expert_weight) * student_side",
        "(1.0 - expert_weight) * expert_side + expert_weight * student_side",
    ),
    Mutation(
        "Jensen-Shannon forgets what is outside the expert's support",
        others_hold,
        divergences.jensen_shannon_divergence,
        ".sum(-1) + outside_cost",
        ".sum(-1)",
    ),
    Mutation(
        "reverse KL forgets what is outside the expert's support",
        others_hold,
        divergences.reverse_kl_divergence,
        "inside + torch.where(real, outside_cost, 0.0)",
        "inside",
    ),
    Mutation(
        "reverse KL without its floor",
        others_hold,
        reverse_kl.ReverseKL._divergences_bt,
        "expert_floor=self.options.expert_floor",
        "expert_floor=1e-30",
    ),
    Mutation(
        "sampled reverse KL's sign",
        others_hold,
        _SRKL.__call__,
        "weights_bt * log_ratios_bt * matched",
        "-weights_bt * log_ratios_bt * matched",
    ),
    Mutation(
        "sampled reverse KL's ratio lets a gradient through",
        others_hold,
        _SRKL._log_ratios_bt,
        "matched.student_logprobs_btk.detach()",
        "matched.student_logprobs_btk",
    ),
    Mutation(
        "sampled reverse KL reads the first bucket",
        others_hold,
        _SRKL._log_ratios_bt,
        "torch.where(matched.local_mask_bt, buckets_bt, 0)",
        "torch.zeros_like(buckets_bt)",
    ),
    Mutation(
        "GRPO without its clip",
        others_hold,
        _GRPO.__call__,
        "torch.minimum(",
        "torch.maximum(",
    ),
    Mutation(
        "GRPO's clip is symmetric",
        others_hold,
        _GRPO.__call__,
        "max=1.0 + options.clip_high",
        "max=1.0 + options.clip_low",
    ),
    Mutation(
        "GRPO's sign", others_hold, _GRPO.__call__, "reduce_loss(-gains_bt", "reduce_loss(gains_bt"
    ),
    Mutation(
        "GRPO without its group's mean",
        others_hold,
        grpo.group_advantages_b,
        "rewards_b - members_bb @ rewards_b.double() / counts_b",
        "rewards_b.double()",
    ),
    Mutation(
        "GRPO compares all prompts",
        others_hold,
        grpo.group_advantages_b,
        "(group_ids_b[:, None] == group_ids_b[None, :])",
        "torch.ones_like(group_ids_b[:, None] == group_ids_b[None, :])",
    ),
    Mutation(
        "GRPO always scales",
        others_hold,
        grpo.group_advantages_b,
        'normalisation == "none"',
        "False",
    ),
    Mutation(
        "padding trains",
        others_hold,
        reductions.reduce_loss,
        "torch.where(mask_bt, token_losses_bt, 0.0)",
        "token_losses_bt",
    ),
    Mutation(
        "the least likely token is the label",
        others_hold,
        behaviour_cloning._labels_bt,
        "stored_btk.argmax(",
        "stored_btk.argmin(",
    ),
    Mutation(
        "the tail is a label",
        others_hold,
        behaviour_cloning._labels_bt,
        "matched.expert_logprobs_btk[..., :-1]",
        "matched.expert_logprobs_btk",
    ),
    Mutation(
        "blend exchanges its parts",
        others_hold,
        blend.build,
        "(1.0 - weight, options.distillation,",
        "(weight, options.distillation,",
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.require_caught(monkeypatch)
