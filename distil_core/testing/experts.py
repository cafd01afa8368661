"""Checks of an expert: what it says at the states of right, wrong and senseless responses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, get_args
from unittest import SkipTest

import numpy as np

from distil_core.config.models import Component
from distil_core.engines import ENGINES
from distil_core.errors import ExpertError
from distil_core.experts import EXPERTS
from distil_core.experts.base import (
    Expert,
    ExpertAnswer,
    ExpertOptions,
    ExpertQuery,
    ExpertSetting,
    PolicyWeights,
    RecordingExpert,
)
from distil_core.feedback.compose import ATTEMPT_FIELDS
from distil_core.feedback.sources import known_kinds
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.tokenizer import encode_text
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.testing.checks import Check, require, require_all_passed
from distil_core.testing.contract import contract_checks
from distil_core.testing.distributions import require_distributions
from distil_core.testing.policy import COMPUTE, PolicySubject

_ANY_PROBLEM = Problem(prompt="12+30=", reference="42")
_MAX_CONTEXT_TOKENS = 128
_LIMITS = ((16, 0.9999), (2, 0.9), (3, 1.0))
"""(top_k, top_p): as tables have them, and narrower."""
_TOLERANCE = 1e-4


class _ExpertSubject(PolicySubject[ExpertOptions, Expert]):
    problems: Sequence[Problem] = (_ANY_PROBLEM,)

    def expert(self, top_k: int = 16, top_p: float = 0.9999) -> Expert:
        setting = ExpertSetting(
            policy_dir=self.policy_dir,
            compute=COMPUTE,
            max_context_tokens=_MAX_CONTEXT_TOKENS,
            top_k=top_k,
            top_p=top_p,
            record_dir=Path(self.folder.name) / "record",
            seed=7,
        )
        return self.build(setting=setting)

    def queries(self) -> list[ExpertQuery]:
        """Responses that are right, cut, wrong and empty, as the student's tokens."""
        end = end_token_ids(self.tokenizer)[0]
        found = []
        for number, problem in enumerate(self.problems[:2]):
            right = encode_text(self.tokenizer, problem.reference)[:20]
            wrong = encode_text(self.tokenizer, problem.prompt[::-1])[:20]
            responses = [[*right, end], right, [*wrong, end], [end], [*right[:1], end]]
            found += [
                self._query(problem, response, f"001/{number}/{place}")
                for place, response in enumerate(responses)
                if response
            ]
        return found

    def _query(self, problem: Problem, response_ids: list[int], rollout_id: str) -> ExpertQuery:
        context = encode_text(self.tokenizer, problem.prompt)[: _MAX_CONTEXT_TOKENS - 1]
        attempt = self.tokenizer.decode(response_ids, skip_special_tokens=True)
        values = dict.fromkeys(ATTEMPT_FIELDS | known_kinds(), "feedback") | {
            "prompt": problem.prompt,
            "attempt": attempt,
            "verdict": "wrong",
        }
        return ExpertQuery(context or [0], response_ids, rollout_id, problem, values)


def expert_checks(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    policy_dir: Path | None = None,
) -> list[Check]:
    """The checks of an expert, named as in settings, with these options.

    problems: what it is asked about; an addition where none are given. policy_dir: a checkpoint for
    an expert that works with a real one; else a tiny one with a token for each character.
    """
    subject = _ExpertSubject(EXPERTS, component, options)
    subject.problems = problems or subject.problems
    subject.given_policy_dir = policy_dir

    return [
        *contract_checks(subject),
        subject.check(
            "its options tell the campaign what it works with",
            _options_tell,
            "override the properties of ExpertOptions with the types they have there",
        ),
        subject.check(
            "it gives one answer to each query, with a distribution for each token",
            _answers_each,
            "return as many ExpertAnswer as there are queries, in order; a state that it says "
            "nothing about has no ids and the tail -inf",
        ),
        subject.check(
            "distributions have mass 1 and keep top_k and top_p",
            _keeps_limits,
            "store the fewest ids that hold setting.top_p, at most setting.top_k, and the rest of "
            "the mass as tail (distil_core.experts.labels.scored_labels does)",
        ),
        subject.check(
            "an answer depends on its own query alone",
            _is_independent_of_others,
            "keep nothing between queries; derive random numbers from rollout_id",
        ),
        subject.check(
            "it can be asked nothing, and about a rollout without feedback or problem",
            _takes_little,
            "give a silent answer, or raise ExpertError where it cannot be asked",
        ),
        subject.check(
            "what it wrote itself is whole",
            _continuations_are_whole,
            "give each Continuation a distribution for each of its tokens",
        ),
        subject.check(
            "what cannot be computed again is kept",
            _keeps_a_record,
            "write into the folder that save_record is given",
        ),
    ]


def check_expert(
    component: str | ModuleType,
    options: Mapping[str, Any] | None = None,
    problems: Sequence[Problem] = (),
    policy_dir: Path | None = None,
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    checks = expert_checks(component, options, problems, policy_dir)
    require_all_passed(f"expert {component!s}", checks)


def _options_tell(subject: _ExpertSubject) -> None:
    options = subject.options
    weights, known = options.policy_weights, get_args(PolicyWeights)
    require(weights in known, f"policy_weights is {weights!r}, expected one of {known}")
    path = options.checkpoint_path
    require(path is None or isinstance(path, str), f"checkpoint_path is {path!r}, expected a text")
    writes = options.writes_responses
    require(isinstance(writes, bool), f"writes_responses is {writes!r}, expected True or False")
    engine = options.scoring_engine
    if engine is not None:
        require(isinstance(engine, Component), f"scoring_engine is {engine!r}, no Component")
        ENGINES.options(engine.name, engine.options)


def _answers_each(subject: _ExpertSubject) -> None:
    expert = subject.expert()
    needs = expert.needs_feedback
    require(isinstance(needs, bool), f"needs_feedback is {needs!r}, expected True or False")
    queries = subject.queries()
    answers = expert.answer(queries, no_progress)
    require(len(answers) == len(queries), f"{len(answers)} answers to {len(queries)} queries")
    for query, answer in zip(queries, answers, strict=True):
        require(isinstance(answer, ExpertAnswer), f"{answer!r:.80} is no ExpertAnswer")
        require_distributions(
            answer.distribution, len(query.response_ids), 16, 0.9999, len(subject.tokenizer)
        )


def _keeps_limits(subject: _ExpertSubject) -> None:
    queries = subject.queries()
    for top_k, top_p in _LIMITS:
        answers = subject.expert(top_k, top_p).answer(queries, no_progress)
        for query, answer in zip(queries, answers, strict=True):
            require_distributions(
                answer.distribution,
                len(query.response_ids),
                top_k,
                top_p,
                len(subject.tokenizer),
            )


def _is_independent_of_others(subject: _ExpertSubject) -> None:
    queries = subject.queries()
    together = subject.expert().answer(queries, no_progress)
    expert = subject.expert()
    for query, answer in reversed(list(zip(queries, together, strict=True))):
        [alone] = expert.answer([query], no_progress)
        _require_same(alone, answer)


def _require_same(one: ExpertAnswer, other: ExpertAnswer) -> None:
    found, expected = one.distribution, other.distribution
    same = np.array_equal(found.counts_t, expected.counts_t) and np.allclose(
        found.logprobs, expected.logprobs, atol=_TOLERANCE
    )
    require(same, "asked alone, it says something else than asked with others")


def _takes_little(subject: _ExpertSubject) -> None:
    expert = subject.expert()
    require(list(expert.answer([], no_progress)) == [], "it answered where nothing was asked")
    full = subject.queries()[0]
    silent = dict.fromkeys(full.values, "") | {"prompt": full.values["prompt"]}
    for query in (
        ExpertQuery(full.context_ids, full.response_ids, "1", full.problem, silent),
        ExpertQuery(full.context_ids, full.response_ids, "2"),
    ):
        try:
            [answer] = expert.answer([query], no_progress)
        except ExpertError:
            continue
        require_distributions(
            answer.distribution, len(query.response_ids), 16, 0.9999, len(subject.tokenizer)
        )


def _continuations_are_whole(subject: _ExpertSubject) -> None:
    queries = subject.queries()
    num_found = 0
    for query, answer in zip(queries, subject.expert().answer(queries, no_progress), strict=True):
        for continuation in answer.continuations:
            num_found += 1
            position = continuation.position
            require(
                0 <= position <= len(query.response_ids),
                f"position {position} of a response of {len(query.response_ids)} tokens",
            )
            require(bool(continuation.token_ids), "a continuation has no tokens")
            require_distributions(
                continuation.distribution,
                len(continuation.token_ids),
                16,
                0.9999,
                len(subject.tokenizer),
            )
    if not num_found:
        raise SkipTest("it wrote nothing itself")


def _keeps_a_record(subject: _ExpertSubject) -> None:
    expert = subject.expert()
    if not isinstance(expert, RecordingExpert):
        raise SkipTest("it has no save_record: its answers can be computed again")
    expert.answer(subject.queries(), no_progress)
    with TemporaryDirectory() as folder:
        expert.save_record(Path(folder))
        require(any(Path(folder).rglob("*")), "save_record wrote nothing")
