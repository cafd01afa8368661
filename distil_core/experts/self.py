"""The policy itself as expert: conditioned on the feedback, it scores the student's tokens."""

from distil_core.experts._scoring import ScoringExpert, ScoringOptions, scoring_expert
from distil_core.experts.base import ExpertSetting, PolicyWeights


class Options(ScoringOptions):
    """The policy itself, which reads the feedback."""

    weights: PolicyWeights
    """'frozen' is the base policy for the whole campaign; 'snapshot' the policy that sampled this
    iteration's rollouts; 'ema' the moving average of the weights over all training steps so far
    (train.average_decay), which is kept with each policy; 'champion' the last policy that the gate
    promoted, at first the base. It is the snapshot's too unless gate.on_regression is 'continue',
    which then needs gate.keep_champion. Frozen is the safe choice: a snapshot is trained without
    feedback in its context, drifts away from reading it, and collapsed in measurements
    (docs/method.md#the-papers-settings-and-ours)."""

    @property
    def policy_weights(self) -> PolicyWeights:
        """As set."""
        return self.weights


def build(options: Options, setting: ExpertSetting) -> ScoringExpert:
    """setting.policy_dir: the checkpoint that `weights` names for this iteration."""
    return scoring_expert(setting.policy_dir, setting, options)
