"""Another checkpoint with the student's tokenizer as expert: full distributions, other weights."""

from pathlib import Path

from distil_core.errors import ConfigError, ExpertError
from distil_core.experts._scoring import ScoringOptions, scoring_expert
from distil_core.experts.base import Expert, ExpertSetting
from distil_core.experts.end_tokens import ExpertWithOtherEnds, OtherEnds
from distil_core.policy.tokenizer import load_tokenizer, vocabulary_digest


class Options(ScoringOptions):
    """Another model with the same tokenizer. It may end a response with other tokens, and have
    another padding."""

    path: str
    """A Hugging Face folder, absolute or from the workspace's root. It becomes a dependency of the
    stage, so that DVC notices other weights in it."""
    needs_feedback: bool = True
    """Whether rollouts without feedback are left out, as they are for the policy itself; a stronger
    model has something to say about those too."""

    @property
    def checkpoint_path(self) -> str:
        """As set."""
        return self.path


def build(options: Options, setting: ExpertSetting) -> Expert:
    """Raises `ExpertError` where the checkpoint's tokens are not the student's."""
    folder = Path(options.path)
    if not folder.is_dir():
        raise ConfigError(
            f"tabulate.expert.options.path {options.path!r} of expert 'white_box' is no folder: "
            "expected a Hugging Face checkpoint (config, safetensors, tokenizer)"
        )
    tokenizer, student = load_tokenizer(folder), load_tokenizer(setting.policy_dir)
    found, expected = vocabulary_digest(tokenizer), vocabulary_digest(student)
    if found != expected:
        raise ExpertError(
            f"the expert in {folder} has another tokenizer (digest {found}, the student's is "
            f"{expected}): its distributions would be over other tokens. Use a checkpoint with "
            "the student's tokenizer, or ask this model for text (expert 'black_box')"
        )
    expert = scoring_expert(folder, setting, options, options.needs_feedback)
    ends = OtherEnds.between(student, tokenizer)
    return expert if ends is None else ExpertWithOtherEnds(expert, ends)
