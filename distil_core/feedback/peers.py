"""Peer solutions: what another rollout of the same prompt did right."""

from collections.abc import Sequence
from dataclasses import dataclass

from distil_core.seeds import generator
from distil_core.verifiers.base import FeedbackItem


@dataclass(frozen=True)
class Attempt:
    """A rollout as its peers see it. is_correct: the tools found it right, and it was finished."""

    rollout_id: str
    problem_id: str
    response: str
    is_correct: bool


def peer_solutions(attempts: Sequence[Attempt], seed: int) -> dict[str, FeedbackItem]:
    """For each rollout a correct one of the same prompt by another sample, by rollout id; missing
    where there is none. A rollout's own success is never its demonstration."""
    correct: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.is_correct:
            correct.setdefault(attempt.problem_id, []).append(attempt)
    found = {}
    for attempt in attempts:
        peers = [
            peer
            for peer in correct.get(attempt.problem_id, [])
            if peer.rollout_id != attempt.rollout_id
        ]
        if peers:
            random = generator(seed, "peer_solution", attempt.rollout_id)
            chosen = peers[int(random.integers(len(peers)))]
            found[attempt.rollout_id] = FeedbackItem("peer_solution", chosen.response)
    return found
