"""The verifier's own feedback on an attempt."""

from collections.abc import Sequence

from distil_core.feedback.sources.base import (
    Attempt,
    FeedbackSourceOptions,
    SourceFeedback,
    SourceSetting,
)


class Options(FeedbackSourceOptions):
    """It has none: consult.verifier names the verifier."""

    kinds = ("execution_trace", "tool_output", "expert_correction")


class VerifierItems:
    """Returns the items that came with the verdicts."""

    def gather(
        self, attempts: Sequence[Attempt], asked: Sequence[Attempt], setting: SourceSetting
    ) -> SourceFeedback:
        """See the contract."""
        return SourceFeedback({attempt.name: attempt.items for attempt in asked})


def build(options: Options) -> VerifierItems:
    """The source."""
    return VerifierItems()
