"""The contract of a source of feedback on the student's attempts."""

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

    kinds: of its items; context.expert_template may name each as a field. asks_policy: whether it
    asks the policy that made the attempts, for which the model must be loaded. shows_reference:
    whether it may show the gold solution, which consult.reveal must allow.
    """

    kinds: ClassVar[tuple[str, ...]]
    asks_policy: ClassVar[bool] = False
    shows_reference: ClassVar[bool] = False


@dataclass(frozen=True)
class Attempt:
    """A student's response with the tools' findings: everything that a source may read of it.

    name: unique to this attempt, such as its rollout id; a source's random choices depend on it.
    verdict: 'correct', 'wrong', 'malformed' or 'truncated'. items: the verifier's own.
    """

    name: str
    problem: Problem
    response: str
    verdict: str
    items: tuple[FeedbackItem, ...] = ()

    @property
    def is_correct(self) -> bool:
        """Whether it is finished and the tools found it right."""
        return self.verdict == "correct"


@dataclass(frozen=True)
class AskablePolicy:
    """The policy that made the attempts. renderer: makes the contexts of questions to it."""

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    renderer: ContextRenderer


@dataclass(frozen=True)
class SourceSetting:
    """What a source gets besides the attempts.

    seed: the campaign's. policy: loads the policy at its first call; only for sources with
    `asks_policy`.
    """

    seed: int
    policy: Callable[[], AskablePolicy]
    progress: ProgressCallback


@dataclass(frozen=True)
class SourceFeedback:
    """items: by the attempts' names; attempts without feedback may be missing. report: JSON values
    for the table's metadata, under names that no other source uses."""

    items: Mapping[str, Sequence[FeedbackItem]]
    report: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class FeedbackSource(Protocol):
    """Deterministic: the same attempts and setting give the same feedback."""

    def gather(
        self, attempts: Sequence[Attempt], asked: Sequence[Attempt], setting: SourceSetting
    ) -> SourceFeedback:
        """Feedback on the attempts `asked` about. attempts: these, and others of the same policy
        that the source may read too."""
        ...
