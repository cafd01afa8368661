"""Which tokens of a rollout the policy wrote, as rows of tables say it."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from distil_core.tables.schemas import RolloutRow, TurnRow


def turn_lengths(turns: Sequence[TurnRow]) -> list[int]:
    """Tokens of the policy, of the environment, of the policy, .. (`FeedbackTableRow`); empty for a
    single turn, all of which the policy wrote."""
    if len(turns) < 2:
        return []
    lengths = [number for one in turns for number in (one.num_tokens, one.num_observation_tokens)]
    return lengths[:-1]


def turn_rewards(turns: Sequence[TurnRow]) -> list[float | None]:
    """The environment's reward of each turn, beside the rollout's own (`FeedbackTableRow`); empty
    where it gave none.

    The reward of a turn with a verdict is the rollout's, which has a column of its own.
    """
    rewards = [None if turn.verdict is not None else turn.reward for turn in turns]
    return [] if all(reward is None for reward in rewards) else rewards


def parts(ids: Sequence[int], lengths: Sequence[int]) -> Iterator[tuple[bool, Sequence[int]]]:
    """A response's tokens in order, and whether the policy wrote them. lengths: from
    `turn_lengths`, or the table's."""
    if not len(lengths):
        yield True, ids
        return
    for number, (start, stop) in enumerate(pairwise(accumulate(lengths, initial=0))):
        yield number % 2 == 0, ids[start:stop]


def own_ids(rollout: RolloutRow) -> list[int]:
    """The tokens of a rollout that the policy wrote."""
    return policys_ids(rollout.response_ids, turn_lengths(rollout.turns))


def policys_ids(ids: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """The tokens that the policy wrote."""
    return [int(token) for is_policys, part in parts(ids, lengths) if is_policys for token in part]
