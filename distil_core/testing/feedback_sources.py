"""Checks of a feedback source: what it says of right, wrong and senseless attempts."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from unittest import SkipTest

from distil_core.config.models import Component, ContextParams
from distil_core.engines import build_engine
from distil_core.feedback.contexts import ContextRenderer
from distil_core.feedback.sources import SOURCES
from distil_core.feedback.sources.base import (
    AskablePolicy,
    Attempt,
    FeedbackSource,
    FeedbackSourceOptions,
    SourceFeedback,
    SourceSetting,
)
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.testing.checks import Check, CheckFailedError, require, require_all_passed
from distil_core.testing.contract import Subject, contract_checks
from distil_core.testing.policy import COMPUTE, write_policy_for_checks
from distil_core.verifiers.base import FeedbackItem

_PROBLEMS = (Problem("12+30=", "the gold 42"), Problem("5+5=", "the gold 10"))
_CONTEXT = ContextParams(
    student_template="{prompt}|", expert_template="{prompt} {attempt}|", max_context_tokens=128
)
_RESERVED = frozenset({"prompt", "attempt", "verdict"})


class _SourceSubject(Subject[FeedbackSourceOptions, FeedbackSource]):
    policy_was_asked = False

    @cached_property
    def folder(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory()

    @cached_property
    def policy(self) -> AskablePolicy:
        policy_dir = write_policy_for_checks(Path(self.folder.name) / "policy")
        engine = Component(name="transformers", options={"batch_size": 4})
        tokenizer = load_tokenizer(policy_dir)
        return AskablePolicy(
            build_engine(engine, policy_dir, COMPUTE),
            tokenizer,
            ContextRenderer(_CONTEXT, tokenizer),
        )

    def gather(
        self, attempts: Sequence[Attempt], asked: Sequence[Attempt]
    ) -> dict[str, tuple[FeedbackItem, ...]]:
        """Of a new source, by the attempts' names."""

        def ask() -> AskablePolicy:
            self.policy_was_asked = True
            return self.policy

        found = self.build().gather(attempts, asked, SourceSetting(7, ask, no_progress))
        require(
            isinstance(found, SourceFeedback),
            f"it returned {type(found).__name__}, expected a SourceFeedback",
        )
        return {name: tuple(items) for name, items in found.items.items()}


def feedback_source_checks(
    component: str | ModuleType, options: Mapping[str, Any] | None = None
) -> list[Check]:
    """The checks of a source of feedback, named as in settings, with these options."""
    subject = _SourceSubject(SOURCES, component, options)

    return [
        *contract_checks(subject),
        subject.check(
            "its options tell the kinds of its items",
            _tells_kinds,
            'set `kinds = ("my_kind",)` in Options: fields that context.expert_template may name',
        ),
        subject.check(
            "it gives items of its kinds, for the attempts it was asked about",
            _gives_items,
            "return SourceFeedback({attempt.name: (FeedbackItem(kind, text),)}) for those asked",
        ),
        subject.check(
            "feedback on an attempt depends on neither order nor what else is asked",
            _is_independent_of_order,
            "derive random numbers from attempt.name, such as generator(setting.seed, ..)",
        ),
        subject.check(
            "the policy is asked only by a source that says so",
            _asks_as_told,
            "set `asks_policy = True` in Options",
        ),
        subject.check(
            "the gold solution is shown only by a source that says so",
            _shows_as_told,
            "set `shows_reference = True` in Options, so that consult.reveal has to allow it",
        ),
        subject.check("it can be asked about nothing", _takes_nothing, "return SourceFeedback({})"),
    ]


def check_feedback_source(
    component: str | ModuleType, options: Mapping[str, Any] | None = None
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    checks = feedback_source_checks(component, options)
    require_all_passed(f"feedback source {component!s}", checks)


def _attempts() -> list[Attempt]:
    """Right, wrong, cut and empty ones at two problems; only the right ones hold the reference."""
    trace = (FeedbackItem("execution_trace", "a trace"),)
    return [
        Attempt(f"001/{number}/{place}", problem, response, verdict, trace)
        for number, problem in enumerate(_PROBLEMS)
        for place, (response, verdict) in enumerate(
            [
                ("41", "wrong"),
                (problem.reference, "correct"),
                ("", "malformed"),
                ("4", "truncated"),
                (f"so {problem.reference}", "correct"),
            ]
        )
    ]


def _tells_kinds(subject: _SourceSubject) -> None:
    kinds = vars(type(subject.options)).get("kinds")
    texts = isinstance(kinds, tuple) and all(isinstance(kind, str) for kind in kinds)
    require(bool(kinds) and texts, f"kinds is {kinds!r}, expected a tuple of texts")
    for kind in subject.options.kinds:
        require(kind.isidentifier(), f"the kind {kind!r} cannot stand in a template's braces")
        require(kind not in _RESERVED, f"{kind!r} is a field that every template has already")


def _gives_items(subject: _SourceSubject) -> None:
    attempts = _attempts()
    asked = attempts[::2]
    found = subject.gather(attempts, asked)
    others = sorted(found.keys() - {attempt.name for attempt in asked})
    require(not others, f"it gave feedback on {others}, which it was not asked about")
    for items in found.values():
        for item in items:
            require(
                isinstance(item, FeedbackItem) and isinstance(item.text, str),
                f"{item!r:.80} is no FeedbackItem(kind, text)",
            )
            require(
                item.kind in subject.options.kinds,
                f"the kind {item.kind!r} is none of {subject.options.kinds}",
            )


def _is_independent_of_order(subject: _SourceSubject) -> None:
    attempts = _attempts()
    expected = subject.gather(attempts, attempts)
    for asked in (attempts[::-1], attempts[3:4], attempts[:1]):
        found = subject.gather(attempts, asked)
        for attempt in asked:
            now, before = (each.get(attempt.name, ()) for each in (found, expected))
            require(
                now == before,
                f"on {attempt.response!r} it said {before!r:.100}, and asked about others as well "
                f"{now!r:.100}",
            )


def _asks_as_told(subject: _SourceSubject) -> None:
    subject.policy_was_asked = False
    attempts = _attempts()
    subject.gather(attempts, attempts)
    if subject.policy_was_asked and not subject.options.asks_policy:
        raise CheckFailedError("it asked the policy, but asks_policy is False")
    if not subject.options.asks_policy:
        return
    require(subject.policy_was_asked, "asks_policy is True, but it did not ask")


def _shows_as_told(subject: _SourceSubject) -> None:
    if subject.options.shows_reference:
        raise SkipTest("it says that it shows the gold solution")
    wrong = [attempt for attempt in _attempts() if not attempt.is_correct]
    for attempt in wrong:
        for item in subject.gather(wrong, wrong).get(attempt.name, ()):
            require(
                attempt.problem.reference not in item.text,
                f"on {attempt.response!r} it showed {item.text[:80]!r}",
            )


def _takes_nothing(subject: _SourceSubject) -> None:
    require(subject.gather(_attempts(), []) == {}, "it gave feedback where none was asked for")
