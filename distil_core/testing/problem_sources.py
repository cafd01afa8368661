"""Checks of a problem source: the same problems for the same seed, in splits that stay apart."""

import json
import random
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from types import ModuleType
from typing import Any
from unittest import SkipTest

import numpy as np

from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import (
    Problem,
    ProblemSource,
    ProblemSourceOptions,
    ReportingSource,
    SupervisedSource,
)
from distil_core.problems.splits import SPLITS, make_splits
from distil_core.testing.checks import Check, require, require_all_passed
from distil_core.testing.contract import Subject, contract_checks

_NUM_PROBLEMS = 20
_SEED = 7


class _SourceSubject(Subject[ProblemSourceOptions, ProblemSource]):
    @cached_property
    def source(self) -> ProblemSource:
        return self.build()

    def supervised(self) -> SupervisedSource:
        if not isinstance(self.source, SupervisedSource):
            raise SkipTest("it makes no supervised text: for base.kind pretrained only")
        return self.source


def problem_source_checks(
    component: str | ModuleType, options: Mapping[str, Any] | None = None
) -> list[Check]:
    """The checks of a problem source, named as in settings, with these options."""
    subject = _SourceSubject(PROBLEM_SOURCES, component, options)

    return [
        *contract_checks(subject),
        subject.check(
            "it gives problems with a prompt, a reference and JSON metadata",
            _gives_problems,
            "give Problem(prompt, reference, json.dumps(..)), each a text",
        ),
        subject.check(
            "seed and split alone decide which problems, and in which order",
            _is_deterministic,
            "draw from distil_core.seeds.generator(seed, 'problems', split), never from a global "
            "generator, and keep nothing between two streams",
        ),
        subject.check(
            "the held-out problems are not those that are trained on",
            _splits_are_apart,
            "give each split a stream of its own: generator(seed, 'problems', split)",
        ),
        subject.check(
            "what it reports of itself is JSON and stays the same",
            _reports_the_same,
            "count what depends on the options alone",
        ),
        subject.check(
            "its supervised text is made from the random numbers it is given",
            _supervises_deterministically,
            "draw from `random` alone",
        ),
        subject.check(
            "its oracle says one character for each of an attempt's, and at most one more",
            _oracle_keeps_step,
            "give what should be written at each state along the attempt, up to the solution's end",
        ),
        subject.check(
            "prompts and supervised text are of its alphabet",
            _alphabet_is_whole,
            "name every character that is no printable ASCII in alphabet()",
        ),
    ]


def check_problem_source(
    component: str | ModuleType, options: Mapping[str, Any] | None = None
) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    checks = problem_source_checks(component, options)
    require_all_passed(f"problem source {component!s}", checks)


def some_problems(source: ProblemSource, split: str = "train", seed: int = _SEED) -> list[Problem]:
    """The first problems of a split."""
    return list(islice(source.problems(split, seed), _NUM_PROBLEMS))


def _gives_problems(subject: _SourceSubject) -> None:
    for split in SPLITS:
        problems = some_problems(subject.source, split)
        require(bool(problems), f"split {split!r} has no problems")
        for problem in problems:
            require(isinstance(problem, Problem), f"{problem!r:.80} is no Problem")
            for name in ("prompt", "reference", "metadata"):
                value = vars(problem)[name]
                require(isinstance(value, str), f"{name} is {value!r:.80}, expected a text")
            require(bool(problem.prompt.strip()), "a prompt is empty")
            metadata = json.loads(problem.metadata)
            require(
                isinstance(metadata, dict), f"metadata is {problem.metadata:.80}, no JSON object"
            )


def _is_deterministic(subject: _SourceSubject) -> None:
    expected = {split: some_problems(subject.source, split) for split in SPLITS}
    # What the global generators hold must not matter, nor what was asked for before.
    random.seed(1)
    np.random.seed(1)
    other = subject.build()
    for split in reversed(SPLITS):
        require(
            some_problems(other, split) == expected[split],
            f"split {split!r} of seed {_SEED} was another one the second time",
        )
    one, two = (subject.source.problems("train", _SEED) for _ in range(2))
    pairs = list(islice(zip(one, two, strict=False), _NUM_PROBLEMS))
    require(
        all(first == second for first, second in pairs),
        "two streams of one split, read by turns, give different problems",
    )


def _splits_are_apart(subject: _SourceSubject) -> None:
    held_out, trained = (some_problems(subject.source, split) for split in ("eval", "train"))
    require(held_out != trained, "the splits 'eval' and 'train' are the same problems")
    sizes = {"eval": 2, "train": 2, "warm_start": 0}
    splits = make_splits(subject.source, sizes, _SEED)
    require(len(splits["train"]) == 2, "no two problems to train on that are not held out")


def _reports_the_same(subject: _SourceSubject) -> None:
    source, other = subject.source, subject.build()
    if not isinstance(source, ReportingSource) or not isinstance(other, ReportingSource):
        raise SkipTest("it reports nothing of itself")
    require(json.dumps(source.report()) == json.dumps(other.report()), "two reports differ")


def _supervises_deterministically(subject: _SourceSubject) -> None:
    source = subject.supervised()
    for index, problem in enumerate(some_problems(source)):
        for make in (source.demonstration, source.corrupted_attempt):
            texts = {make(problem, np.random.default_rng(index)) for _ in range(3)}
            require(len(texts) == 1, f"{make.__name__} gave {sorted(texts)!r:.200}")
            require(isinstance(texts.pop(), str), f"{make.__name__} gave no text")


def _oracle_keeps_step(subject: _SourceSubject) -> None:
    source = subject.supervised()
    for index, problem in enumerate(some_problems(source)):
        attempt = source.corrupted_attempt(problem, np.random.default_rng(index))
        for text in ("", attempt, problem.reference, "?", attempt + "?"):
            said = source.oracle_characters(problem, text)
            require(
                isinstance(said, str) and len(said) <= len(text) + 1,
                f"along {text!r:.80} of {len(text)} characters it said {said!r:.80}",
            )


def _alphabet_is_whole(subject: _SourceSubject) -> None:
    source = subject.supervised()
    known = {*source.alphabet(), *map(chr, range(32, 127)), "\n"}
    for index, problem in enumerate(some_problems(source)):
        numbers = np.random.default_rng(index)
        text = problem.prompt + problem.reference + source.demonstration(problem, numbers)
        unknown = sorted(set(text) - known)
        require(not unknown, f"alphabet() lacks {unknown!r:.80}")
