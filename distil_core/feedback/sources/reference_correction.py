"""The gold solution as an expert correction, where answers may be revealed."""

from collections.abc import Sequence

from distil_core.feedback.sources.base import (
    Attempt,
    FeedbackSourceOptions,
    SourceFeedback,
    SourceSetting,
)
from distil_core.verifiers.base import FeedbackItem


class Options(FeedbackSourceOptions):
    """It has none."""

    kinds = ("expert_correction",)
    shows_reference = True


class ReferenceCorrection:
    """Gives every attempt at a problem the same item."""

    def gather(
        self, attempts: Sequence[Attempt], asked: Sequence[Attempt], setting: SourceSetting
    ) -> SourceFeedback:
        """See the contract."""
        return SourceFeedback(
            {
                attempt.name: (FeedbackItem("expert_correction", attempt.problem.reference),)
                for attempt in asked
            }
        )


def build(options: Options) -> ReferenceCorrection:
    """The source."""
    return ReferenceCorrection()
