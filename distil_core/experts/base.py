"""The contract of an expert: what it would do at each state the student visited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from distil_core.config.models import Component, ComputeParams
from distil_core.engines.base import ScoredResponse
from distil_core.problems.base import Problem
from distil_core.progress import ProgressCallback
from distil_core.registry import ComponentOptions

PolicyWeights = Literal["frozen", "snapshot", "ema", "champion"]
"""Which of the campaign's policies: the base, the one that sampled this iteration's rollouts, the
moving average of the weights so far (train.average_decay), or the last one that the gate
promoted."""


class ExpertOptions(ComponentOptions):
    """Base of an expert's `Options`: what the campaign must know of it before it is built."""

    @property
    def policy_weights(self) -> PolicyWeights:
        """Of which policy of the campaign `ExpertSetting.policy_dir` is. An expert that has no
        weights of the campaign's own reads no more than the tokenizer there, which is the same in
        all of them; 'frozen' is then the one that never changes."""
        return "frozen"

    @property
    def checkpoint_path(self) -> str | None:
        """A checkpoint from outside the campaign that it works with, absolute or from the
        workspace's root. It is a dependency of the stages that ask the expert; None for none."""
        return None

    @property
    def writes_responses(self) -> bool:
        """Whether its checkpoint (`checkpoint_path`, or else the campaign's policy) is a language
        model that can be sampled from in the expert's context, to measure how good it is itself.
        """
        return False

    @property
    def follows_turns(self) -> bool:
        """Whether it knows what happened before a turn: it reads the tokens of its context, or is
        handed the turns (`_turn_query`). One that does not cannot be asked about rollouts in an
        environment."""
        return False

    @property
    def distribution_temperature(self) -> float:
        """What the logits of its model are divided by before its distributions are stored, and
        before it is sampled from to measure how good it is. 1 leaves them as they are."""
        return 1.0

    @property
    def scoring_engine(self) -> Component | None:
        """The engine that scores for it; None where it needs none."""
        return None

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """The engine that scores for it."""
        return (("engine", self.scoring_engine.name),) if self.scoring_engine else ()


@dataclass(frozen=True)
class ExpertQuery:
    """One rollout to label. context_ids: the expert's context, with the feedback in it, in tokens
    of the student's tokenizer. response_ids: the student's own; the expert answers at each state
    along them.

    What experts that do not read token ids need besides: values, the text of each field of
    context.expert_template; the problem, for programs that know its answer; rollout_id, which
    states are asked about depends on nothing else.
    """

    context_ids: Sequence[int]
    response_ids: Sequence[int]
    rollout_id: str = ""
    problem: Problem | None = None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Continuation:
    """Tokens that the expert wrote itself, from the state before the student's token `position`
    (0: from the start of the response). With the end token where it finished. distribution: of the
    expert at each of them."""

    position: int
    token_ids: list[int]
    distribution: ScoredResponse


@dataclass(frozen=True)
class ExpertAnswer:
    """context_ids: the tokens the expert read, kept for audit; empty where it reads none of ours.
    A position of the distribution without ids and without tail is one the expert was silent at."""

    context_ids: list[int]
    distribution: ScoredResponse
    continuations: tuple[Continuation, ...] = ()


@dataclass(frozen=True)
class ExpertSetting:
    """What an expert may be built from, besides its own options.

    policy_dir: the checkpoint whose weights it uses, where those are the campaign's own; its
    tokenizer is the student's in any case. record_dir: where paid-for answers survive the stage.
    """

    policy_dir: Path
    compute: ComputeParams
    max_context_tokens: int
    top_k: int
    top_p: float
    record_dir: Path | None = None
    seed: int = 0


@runtime_checkable
class Expert(Protocol):
    """Says what it would do at each state along a student's response.

    needs_feedback: whether a rollout without feedback leaves it nothing to say.
    """

    needs_feedback: bool

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """One answer a query, in order. Raises `ExpertError` when the expert cannot be asked."""
        ...


@runtime_checkable
class RecordingExpert(Expert, Protocol):
    """An expert whose answers cannot be computed again, so that they are kept with the table."""

    def save_record(self, folder: Path) -> None:
        """Write into `folder` all that was answered, and counts of what was not."""
        ...
