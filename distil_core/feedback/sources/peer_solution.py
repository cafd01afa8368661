"""Peer solutions: a correct attempt at the same problem as feedback on another attempt."""

from collections.abc import Sequence

from distil_core.feedback.sources.base import (
    Attempt,
    FeedbackSourceOptions,
    SourceFeedback,
    SourceSetting,
)
from distil_core.seeds import generator
from distil_core.verifiers.base import FeedbackItem


class Options(FeedbackSourceOptions):
    """It has none."""

    kinds = ("peer_solution",)


class PeerSolution:
    """Gives each attempt a random correct one at the same problem; nothing where there is no other.
    An attempt's own success is never its own demonstration."""

    def gather(
        self, attempts: Sequence[Attempt], asked: Sequence[Attempt], setting: SourceSetting
    ) -> SourceFeedback:
        """See the contract. Reports how many attempts have a peer."""
        correct: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            if attempt.is_correct:
                correct.setdefault(attempt.problem.problem_id, []).append(attempt)
        found = {}
        for attempt in asked:
            peers = [
                peer
                for peer in correct.get(attempt.problem.problem_id, [])
                if peer.name != attempt.name
            ]
            if peers:
                random = generator(setting.seed, "peer_solution", attempt.name)
                chosen = peers[int(random.integers(len(peers)))]
                found[attempt.name] = (FeedbackItem("peer_solution", chosen.response),)
        return SourceFeedback(found, {"num_with_peer": len(found)})


def build(options: Options) -> PeerSolution:
    """The source."""
    return PeerSolution()
