"""Checks of an engine: what it samples and scores with a tiny policy."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from distil_core.config.models import ComputeParams
from distil_core.engines import ENGINES
from distil_core.engines.base import (
    Engine,
    EngineOptions,
    SampledResponse,
    SampleRequest,
    SamplingSettings,
    ScoredResponse,
    ScoreRequest,
    continuing,
)
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.tokenizer import encode_text
from distil_core.progress import no_progress
from distil_core.testing.checks import Check, require, require_all_passed
from distil_core.testing.contract import contract_checks
from distil_core.testing.distributions import require_distributions
from distil_core.testing.policy import COMPUTE, PolicySubject

_PROMPTS = ("1+2=", "1+2=", "abc", "a longer context than the others have", "1+2=", "x")
_PLAIN = SamplingSettings(max_new_tokens=12, temperature=1.0, top_p=1.0)
_NARROW = SamplingSettings(max_new_tokens=12, temperature=0.7, top_p=0.8)
_TOLERANCE = 2e-4


class _EngineSubject(PolicySubject[EngineOptions, Engine]):
    compute: ComputeParams = COMPUTE

    @cached_property
    def engine(self) -> Engine:
        return self.build(policy_dir=self.policy_dir, compute=self.compute)

    def requests(self) -> list[SampleRequest]:
        return [
            SampleRequest(encode_text(self.tokenizer, prompt), seed)
            for seed, prompt in enumerate(_PROMPTS, start=100)
        ]

    def sampled(
        self, settings: SamplingSettings = _PLAIN
    ) -> list[tuple[SampleRequest, SampledResponse]]:
        requests = self.requests()
        responses = self.engine.sample(requests, settings, no_progress)
        require(len(responses) == len(requests), f"{len(responses)} of {len(requests)} responses")
        return list(zip(requests, responses, strict=True))

    def most_ids(self, top_k: int) -> int:
        largest = self.options.largest_top_k
        return top_k if largest is None else min(top_k, largest)


def engine_checks(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    policy_dir: Path | None = None,
    compute: ComputeParams = COMPUTE,
) -> list[Check]:
    """The checks of an engine, named as in settings, with these options. policy_dir: a checkpoint
    that it can hold; a tiny Llama where none is given."""
    subject = _EngineSubject(ENGINES, component, options)
    subject.given_policy_dir, subject.compute = policy_dir, compute

    return [
        *contract_checks(subject),
        subject.check(
            "responses are tokens with a log-probability each, and end as they say",
            _responses_are_whole,
            "give the end token with the response where finish_reason is 'stop', and no more than "
            "max_new_tokens",
        ),
        subject.check(
            "a response depends on its own context and seed alone",
            _seeds_decide,
            "draw each row's numbers from its request's seed, not from a generator of the batch",
        ),
        subject.check(
            "turns that continue others are as if their contexts were read anew",
            _turns_continue,
            "keep of earlier calls only what a request's context begins with, token by token",
        ),
        subject.check(
            "behaviour log-probabilities are those of the drawn tokens",
            _logprobs_match,
            "give log mu of the token drawn, with temperature and top_p in it and renormalised",
        ),
        subject.check(
            "scored distributions have mass 1 and keep top_k and top_p",
            _scores_are_distributions,
            "give the fewest ids that hold top_p, at most top_k, and the rest of the mass as tail",
        ),
        subject.check(
            "a score depends on its own request alone",
            _scores_are_independent,
            "mask padding, and score in evaluation mode",
        ),
        subject.check(
            "no requests give no results",
            _takes_nothing,
            "return an empty list",
        ),
    ]


def check_engine(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    policy_dir: Path | None = None,
    compute: ComputeParams = COMPUTE,
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    checks = engine_checks(component, options, policy_dir, compute)
    require_all_passed(f"engine {component!s}", checks)


def _responses_are_whole(subject: _EngineSubject) -> None:
    ends = end_token_ids(subject.tokenizer)
    for settings in (_PLAIN, _NARROW):
        for _, response in subject.sampled(settings):
            require(response.error is None, f"a request failed: {response.error}")
            ids, logprobs = response.token_ids, response.behaviour_logprobs
            require(len(ids) == len(logprobs), f"{len(ids)} tokens, {len(logprobs)} logprobs")
            require(0 < len(ids) <= settings.max_new_tokens, f"{len(ids)} tokens were drawn")
            require(
                bool(np.isfinite(logprobs).all() and (np.array(logprobs) <= 1e-6).all()),
                "log-probabilities must be finite and at most 0",
            )
            has_ended = ids[-1] in ends
            require(
                response.finish_reason == ("stop" if has_ended else "length"),
                f"finish_reason {response.finish_reason!r}, the last token is "
                f"{'an' if has_ended else 'no'} end token",
            )
            require(not set(ids[:-1]) & set(ends), "there are tokens after an end token")


def _seeds_decide(subject: _EngineSubject) -> None:
    together = subject.sampled()
    for request, response in reversed(together):
        [alone] = subject.engine.sample([request], _PLAIN, no_progress)
        require(
            alone.token_ids == response.token_ids,
            f"seed {request.seed} drew other tokens alone than among others",
        )
    others = [SampleRequest(one.context_ids, one.seed + 1000) for one in subject.requests()]
    drawn = subject.engine.sample(others, _PLAIN, no_progress)
    require(
        [one.token_ids for one in drawn] != [one.token_ids for _, one in together],
        "other seeds drew the same tokens",
    )


def _turns_continue(subject: _EngineSubject) -> None:
    requests = subject.requests()
    with continuing(subject.engine) as sampler:
        drawn = sampler.sample(requests, _PLAIN, no_progress)
        later = [
            # What answers a turn is another rollout's context, so that rows differ in length.
            SampleRequest([*one.context_ids, *first.token_ids, *other.context_ids], one.seed + 2000)
            for one, first, other in zip(requests, drawn, reversed(requests), strict=True)
        ]
        found = sampler.sample(later[::-1], _PLAIN, no_progress)[::-1]
    for one, expected in zip(found, subject.engine.sample(later, _PLAIN, no_progress), strict=True):
        require(one.token_ids == expected.token_ids, "a second turn drew other tokens")
        require(
            np.allclose(one.behaviour_logprobs, expected.behaviour_logprobs, atol=_TOLERANCE),
            "the tokens of a second turn have other log-probabilities",
        )


def _logprobs_match(subject: _EngineSubject) -> None:
    """Against what it scores itself, as far as the ids reach that it gives."""
    top_k = subject.most_ids(len(subject.tokenizer))
    for settings in (_PLAIN, _NARROW):
        pairs = subject.sampled(settings)
        requests = [ScoreRequest(one.context_ids, drawn.token_ids) for one, drawn in pairs]
        num_compared = 0
        for scored, (_, drawn) in zip(
            subject.engine.score(requests, top_k, 1.0, no_progress), pairs, strict=True
        ):
            for position, states in enumerate(_states(scored)):
                expected = _sampler(states, settings)
                if expected is None:
                    continue
                token, found = drawn.token_ids[position], drawn.behaviour_logprobs[position]
                require(
                    token in expected,
                    f"token {token} was drawn outside of top_p {settings.top_p}",
                )
                num_compared += 1
                require(
                    abs(expected[token] - found) <= _TOLERANCE,
                    f"at temperature {settings.temperature} and top_p {settings.top_p} a token has "
                    f"{found:.6f}, by its own scores {expected[token]:.6f}",
                )
        require(num_compared > 0, "no distribution was whole enough to compare with")


def _states(scored: ScoredResponse) -> list[dict[int, float] | None]:
    """Log-probabilities by token of each position; None where some of its mass lies in a tail."""
    starts = np.concatenate([[0], np.cumsum(scored.counts_t)])
    return [
        dict(
            zip(
                scored.token_ids[start:stop].tolist(),
                scored.logprobs[start:stop].astype(float).tolist(),
                strict=True,
            )
        )
        if np.exp(tail) < 1e-6
        else None
        for start, stop, tail in zip(starts[:-1], starts[1:], scored.tail_logprobs_t, strict=True)
    ]


def _sampler(
    logprobs: dict[int, float] | None, settings: SamplingSettings
) -> dict[int, float] | None:
    """What is drawn from: temperature, then the fewest tokens that hold top_p, renormalised. None
    where the nucleus ends so close to a token that rounding decides about it."""
    if logprobs is None:
        return None
    tokens = sorted(logprobs, key=lambda token: -logprobs[token])
    scaled = np.array([logprobs[token] for token in tokens]) / settings.temperature
    masses = np.exp(scaled - scaled.max())
    masses /= masses.sum()
    before = np.concatenate([[0.0], np.cumsum(masses)[:-1]])
    if settings.top_p < 1.0 and np.abs(before - settings.top_p).min() < 1e-4:
        return None
    kept = before < settings.top_p if settings.top_p < 1.0 else np.ones(len(tokens), bool)
    logs = np.log(masses[kept] / masses[kept].sum())
    return dict(zip(np.array(tokens)[kept].tolist(), logs.tolist(), strict=True))


def _scores_are_distributions(subject: _EngineSubject) -> None:
    requests = _score_requests(subject)
    for top_k, top_p in ((16, 0.9999), (2, 0.9), (5, 1.0)):
        most = subject.most_ids(top_k)
        scored = subject.engine.score(requests, most, top_p, no_progress)
        require(len(scored) == len(requests), f"{len(scored)} of {len(requests)} results")
        for request, result in zip(requests, scored, strict=True):
            require_distributions(
                result, len(request.response_ids), most, top_p, len(subject.tokenizer)
            )


def _scores_are_independent(subject: _EngineSubject) -> None:
    requests = _score_requests(subject)
    top_k = subject.most_ids(4)
    together = subject.engine.score(requests, top_k, 1.0, no_progress)
    for request, expected in reversed(list(zip(requests, together, strict=True))):
        [alone] = subject.engine.score([request], top_k, 1.0, no_progress)
        same = np.array_equal(alone.counts_t, expected.counts_t) and np.allclose(
            np.sort(alone.logprobs), np.sort(expected.logprobs), atol=_TOLERANCE
        )
        require(same, "a response has other scores alone than among others")


def _score_requests(subject: _EngineSubject) -> Sequence[ScoreRequest]:
    return [ScoreRequest(one.context_ids, drawn.token_ids) for one, drawn in subject.sampled()]


def _takes_nothing(subject: _EngineSubject) -> None:
    require(list(subject.engine.sample([], _PLAIN, no_progress)) == [], "sample gave results")
    top_k = subject.most_ids(4)
    require(list(subject.engine.score([], top_k, 1.0, no_progress)) == [], "score gave results")
