"""The contract of a source of feedback: what it says of the student's attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from distil_core.problems.base import Problem
from distil_core.progress import ProgressCallback
from distil_core.registry import ComponentOptions
from distil_core.verifiers.base import FeedbackItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distil_core.engines.base import Engine
    from distil_core.feedback.contexts import ContextRenderer


class FeedbackSourceOptions(ComponentOptions):
    """Base of every source's `Options`.

    kinds: of the items that it gives, each a field that context.expert_template may name.
    asks_policy: whether it asks the policy that made the attempts, which then needs a model.
    shows_reference: whether it may show the gold solution, which consult.reveal has to allow.
    """

    kinds: ClassVar[tuple[str, ...]]
    asks_policy: ClassVar[bool] = False
    shows_reference: ClassVar[bool] = False


@dataclass(frozen=True)
class Attempt:
    """A response of the student's with what the tools found: all that a source may read of it.

    name: of this attempt alone, such as its rollout id; what a source draws by chance depends on
    it. verdict: 'correct', 'wrong', 'malformed' or 'truncated'. items: the verifier's own.
    """

    name: str
    problem: Problem
    response: str
    verdict: str
    items: tuple[FeedbackItem, ...] = ()

    @property
    def is_correct(self) -> bool:
        """The tools found it right, and it was finished."""
        return self.verdict == "correct"


@dataclass(frozen=True)
class AskablePolicy:
    """The policy that made the attempts. renderer: makes the contexts of what it is asked."""

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    renderer: ContextRenderer


@dataclass(frozen=True)
class SourceSetting:
    """What a source gets besides the attempts.

    seed: the campaign's. policy: loads the policy when it is first called, to be asked only by
    sources that say so in `asks_policy`.
    """

    seed: int
    policy: Callable[[], AskablePolicy]
    progress: ProgressCallback


@dataclass(frozen=True)
class SourceFeedback:
    """items: by the attempts' names; those it has nothing to say about may be missing. report:
    what the table's metadata shall say of it, by names that no other source uses; JSON values."""

    items: Mapping[str, Sequence[FeedbackItem]]
    report: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class FeedbackSource(Protocol):
    """Depends on nothing but what it is given: the same attempts give the same feedback."""

    def gather(
        self, attempts: Sequence[Attempt], asked: Sequence[Attempt], setting: SourceSetting
    ) -> SourceFeedback:
        """Feedback on the attempts `asked` about. attempts: these, and others of the same policy
        that the source may read as well."""
        ...
