"""The most likely tokens at each position of a prompt: as vLLM reports them, as they are recorded,
and as distributions with a tail."""

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distil_core.engines.base import ScoredResponse
from distil_core.errors import DataError, ExpertError

_NO_MASS = -9999.0
"""How vLLM writes minus infinity in JSON."""
_MASS_TOLERANCE = 1e-3
"""Of a sum of probabilities in float32; logits in their place miss it by far."""


@dataclass(frozen=True)
class ListedTokens:
    """For T positions, flattened position by position and most likely first: counts_t int32 [T],
    token_ids int32 and logprobs float32 [sum(counts)]. given_logprobs_t: float32 [T], of the token
    that the prompt has there, listed or not."""

    counts_t: NDArray[np.int32]
    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    given_logprobs_t: NDArray[np.float32]

    def packed(self) -> dict[str, Any]:
        """Exactly the same, in JSON."""
        parts = (
            self.counts_t.astype("<i4"),
            self.given_logprobs_t.astype("<f4"),
            self.token_ids.astype("<i4"),
            self.logprobs.astype("<f4"),
        )
        content = zlib.compress(b"".join(part.tobytes() for part in parts))
        return {"positions": len(self.counts_t), "data": base64.b64encode(content).decode()}


def unpacked(entry: Any) -> ListedTokens:
    """What was packed. Raises `DataError` for anything else."""
    try:
        num_positions = entry["positions"]
        numbers = np.frombuffer(zlib.decompress(base64.b64decode(entry["data"])), "<i4")
        counts_t, given_t, rest = np.split(numbers, [num_positions, 2 * num_positions])
        token_ids, logprobs = np.split(rest, [int(counts_t.sum())])
        if len(token_ids) != len(logprobs):
            raise ValueError("it is cut")
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise damaged(error) from error
    return ListedTokens(counts_t, token_ids, logprobs.view("<f4"), given_t.view("<f4"))


def damaged(error: Exception) -> DataError:
    """What to raise where a recorded answer cannot be read."""
    return DataError(
        f"a recorded answer of expert 'served' is damaged ({type(error).__name__}: {error}): "
        "delete it from .distil/expert-responses/ to ask again"
    )


def read_listed(
    answer: Any, prompt_ids: Sequence[int], start: int, top_k: int, top_p: float
) -> ListedTokens:
    """The tokens listed from position `start` of the prompt on, the fewest that hold `top_p`.
    Raises `ValueError` for a malformed answer, and `ExpertError` for one that asking again would
    not mend. top_k: as was asked for."""
    try:
        choice = answer["choices"][0]
        positions, echoed = choice.get("prompt_logprobs"), choice.get("prompt_token_ids")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if positions is None:
        raise ExpertError(
            "the server gave no prompt_logprobs, without which it says nothing about the student's "
            "tokens: expert 'served' works with vLLM's OpenAI-compatible server; ask others for "
            "text (expert 'black_box')"
        )
    if echoed is not None and echoed != list(prompt_ids):
        raise ValueError("it is about other tokens than were asked about")
    if not isinstance(positions, list) or len(positions) != len(prompt_ids):
        raise ValueError(f"expected prompt_logprobs of {len(prompt_ids)} tokens")
    counts, ids, logprobs, given_logprobs = [], [], [], []
    for given, position in zip(prompt_ids[start:], positions[start:], strict=True):
        listed = _listed(position)
        if given not in listed:
            raise ValueError(f"the prompt's token {given} is not listed at its position")
        given_logprobs.append(listed[given])
        if len(listed) > top_k:
            # Besides the most likely ones, vLLM always lists the prompt's own.
            del listed[given]
        if len(listed) > top_k:
            raise ValueError(f"{len(listed)} tokens at a position, asked for {top_k}")
        ranked = sorted(listed.items(), key=lambda entry: (-entry[1], entry[0]))
        kept = [(token, logprob) for token, logprob in ranked if logprob > _NO_MASS]
        masses = np.exp([min(logprob, 1.0) for _, logprob in kept])
        _require_probabilities(math.fsum(masses))
        kept = kept[: _num_holding(masses, top_p)]
        counts.append(len(kept))
        ids += [token for token, _ in kept]
        logprobs += [logprob for _, logprob in kept]
    given_t = np.array(given_logprobs, np.float32)
    return ListedTokens(
        np.array(counts, np.int32),
        np.array(ids, np.int32),
        np.array(logprobs, np.float32),
        np.where(given_t <= _NO_MASS, np.float32(-np.inf), given_t),
    )


def read_written(answer: Any) -> list[int]:
    """The tokens that the server sampled, with the end token where it was drawn. Raises
    `ValueError` for a malformed answer."""
    try:
        choice = answer["choices"][0]
        token_ids, reason = choice["token_ids"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    is_whole = isinstance(token_ids, list) and all(type(each) is int for each in token_ids)
    if not is_whole or reason not in ("stop", "length"):
        raise ValueError(f"expected tokens that ended by 'stop' or 'length', found {reason!r}")
    return list(token_ids)


def _listed(position: Any) -> dict[int, float]:
    """Log-probabilities by token id. Raises `ValueError`, also where one is NaN."""
    try:
        listed = {int(token): float(entry["logprob"]) for token, entry in position.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no log-probabilities: {type(error).__name__}: {error}") from error
    if any(math.isnan(logprob) for logprob in listed.values()):
        raise ValueError("a log-probability is NaN")
    return listed


def _require_probabilities(mass: float) -> None:
    if not 0.0 < mass <= 1.0 + _MASS_TOLERANCE:
        raise ExpertError(
            f"the server's log-probabilities at a position have mass {mass:.6g}, expected at most "
            "1: start it with --logprobs-mode raw_logprobs (its default), not with logits"
        )


def _num_holding(masses: NDArray[np.float64], top_p: float) -> int:
    """The fewest of these that hold `top_p`, most likely first; all where that is 1."""
    before = np.concatenate([[0.0], np.cumsum(masses)[:-1]])
    return len(masses) if top_p >= 1.0 else int((before < top_p).sum())


@dataclass(frozen=True)
class Distribution:
    """At one state: ids int32 [K] and logprobs float64 [K], most likely first. tail: the mass of
    all other tokens."""

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float64]
    tail: float


def distributions(listed: ListedTokens, vocabulary_size: int) -> list[Distribution]:
    """The distribution at each position over the first `vocabulary_size` ids. Mass that is listed
    beyond, of a head's padding or of tokens that only the expert has, is taken out: what is left
    has mass 1 again.

    The server does not say what the tail holds. It is what is missing to 1, within the bounds that
    are certain: no less than the prompt's token has, where that is not listed, and for each token
    no more than the least likely of those that are.
    """
    ends = np.cumsum(listed.counts_t)
    found = []
    for start, end, given in zip(
        ends - listed.counts_t, ends, listed.given_logprobs_t.astype(np.float64), strict=True
    ):
        ids, logprobs = listed.token_ids[start:end], listed.logprobs[start:end].astype(np.float64)
        is_known = ids < vocabulary_size
        if not is_known.any():
            raise ExpertError(
                f"the server lists no token below {vocabulary_size} at a state: it has other "
                "tokens than the student, or too small a tabulate.top_k"
            )
        scale = math.log1p(-min(math.fsum(np.exp(logprobs[~is_known])), 1.0 - 1e-12))
        ids, logprobs = ids[is_known], logprobs[is_known] - scale
        most = (vocabulary_size - len(ids)) * math.exp(logprobs[-1])
        is_listed = given >= listed.logprobs[end - 1]
        least = 0.0 if is_listed or not most else min(math.exp(given - scale), most)
        missing = 1.0 - math.fsum(np.exp(logprobs))
        found.append(Distribution(ids, logprobs, min(max(missing, least), most)))
    return found


def stored(states: Sequence[Distribution | None], top_k: int, top_p: float) -> ScoredResponse:
    """As tables have them: the fewest ids that hold `top_p`, at most `top_k`, and the rest added to
    the tail. None: the expert is silent there."""
    counts, ids, logprobs, tails = [], [], [], []
    for state in states:
        if state is None:
            counts.append(0)
            tails.append(-math.inf)
            continue
        masses = np.exp(state.logprobs)
        kept = min(_num_holding(masses, top_p), top_k)
        counts.append(kept)
        ids.append(state.ids[:kept])
        logprobs.append(state.logprobs[:kept])
        tail = math.fsum([state.tail, *masses[kept:]])
        tails.append(math.log(tail) if tail > 0.0 else -math.inf)
    return ScoredResponse(
        counts_t=np.array(counts, np.int32),
        token_ids=np.concatenate([*ids, np.empty(0, np.int32)]).astype(np.int32),
        logprobs=np.concatenate([*logprobs, np.empty(0)]).astype(np.float32),
        tail_logprobs_t=np.array(tails, np.float32),
    )
