"""A program of the user's own as expert: DAgger labels at the student's states, any tokenizer.

At a state the program gets the problem, what the student wrote so far and the feedback, and says
how the response goes on; in an environment, how the turn does, after the turns before it. The label
is the token that its text begins with, in the student's tokenizer; several texts make a mixture. It
runs in processes of its own, each question with a time limit, and a question that fails is a state
without label.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from distil_core.engines.base import ScoredResponse
from distil_core.experts._continued_tokens import ContinuedTokens
from distil_core.experts._program_options import Options
from distil_core.experts._program_questions import (
    BrokenProgramWatch,
    Failure,
    Outcome,
    ProgramPool,
    Question,
)
from distil_core.experts._program_record import (
    AnswerRecord,
    program_digest,
    restore_answers,
    save_answers,
)
from distil_core.experts._program_rollouts import RolloutToAsk, failed_row, num_silent
from distil_core.experts._program_states import chosen, first_wrong_line, lines_of
from distil_core.experts.base import Continuation, ExpertAnswer, ExpertQuery, ExpertSetting
from distil_core.experts.labels import scored_labels
from distil_core.experts.programs.base import Text
from distil_core.files import write_text
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.progress import ProgressCallback

__all__ = ["Options", "ProgramExpert", "build", "restore_answers"]

COUNTS_FILE = "expert_counts.json"
FAILURES_FILE = "expert_failures.jsonl"
_CHUNK = 64
"""Questions sent to a process at once."""


class ProgramExpert:
    """Asks only once about equal states, at any positions and in any rollouts."""

    def __init__(
        self,
        options: Options,
        tokens: ContinuedTokens,
        ends: Iterable[int],
        record: AnswerRecord,
        setting: ExpertSetting,
    ):
        self.needs_feedback = options.needs_feedback
        self._options = options
        self._tokens = tokens
        self._ends = frozenset(ends)
        self._record = record
        self._setting = setting
        self._answered: dict[bytes, tuple[Question, tuple[Text, ...]]] = {}
        self._failed: dict[bytes, Failure] = {}
        self._watch = BrokenProgramWatch(options.max_timeouts)
        self._failures: list[dict[str, object]] = []
        self._num_continuations: Counter[str] = Counter()
        self._counts = dict.fromkeys(("labelled_states", "silent_states", "silent_rollouts"), 0)

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """Labels at the states of each rollout that were asked about. Raises `ExpertError` where
        the program cannot be asked, or answered nothing; answers until then are recorded."""
        follows_turns = self._options.follows_turns
        rollouts = [
            RolloutToAsk.of(query, self._tokens.texts(query.response_ids), follows_turns)
            for query in queries
        ]
        if self._options.states == "first_wrong_line":
            probed = [
                rollout.question(line.start)
                for rollout in rollouts
                for line in lines_of(rollout.texts)
            ]
            self._ask(probed, progress)
        for rollout in rollouts:
            states = self._states(rollout)
            share, seed = self._options.share_of_states, self._setting.seed
            kept = chosen(states, share, seed, rollout.name)
            rollout.asked = [s for s in kept if self._tokens.is_writable(rollout.texts[s])]
        self._ask([one.question(state) for one in rollouts for state in one.asked], progress)
        answers = [self._answer(rollout) for rollout in rollouts]
        self._counts["silent_rollouts"] += num_silent(queries, answers)
        return answers

    def save_record(self, folder: Path) -> None:
        """Write `program_answers.jsonl`, with all answers; `expert_failures.jsonl`, with the
        rollouts that have states without an answer; `expert_counts.json`."""
        save_answers(folder, self._options.program, self._answered)
        lines = [json.dumps(each, sort_keys=True) + "\n" for each in self._failures]
        write_text(folder / FAILURES_FILE, "".join(lines))
        counts = {
            "questions": len(self._answered) + len(self._failed),
            "failed_questions": len(self._failed),
            "rollouts_with_failures": len({row["rollout_id"] for row in self._failures}),
            **self._counts,
            **self._tokens.counts,
        }
        write_text(folder / COUNTS_FILE, json.dumps(counts, indent=1, sort_keys=True) + "\n")

    def _states(self, rollout: RolloutToAsk) -> list[int]:
        """Those that the option `states` means, in order."""
        if self._options.states == "every":
            return list(range(len(rollout.query.response_ids)))
        lines = lines_of(rollout.texts)
        if self._options.states == "line_starts":
            return [line.start for line in lines]
        answers = {line.start: self._texts(rollout.question(line.start)) for line in lines}
        ids = rollout.query.response_ids
        wrong = first_wrong_line(lines, answers, bool(ids) and ids[-1] in self._ends)
        return list(range(wrong.start, wrong.stop)) if wrong else []

    def _texts(self, question: Question) -> tuple[Text, ...]:
        """What the program said; nothing where it failed."""
        found = self._answered.get(question.key)
        return found[1] if found else ()

    def _ask(self, questions: Sequence[Question], progress: ProgressCallback) -> None:
        """Put an outcome of each question into `_answered` or `_failed`, from the record or from
        the program."""
        missing: dict[bytes, Question] = {}
        self._record.open()
        try:
            for question in questions:
                key = question.key
                if key in self._answered or key in self._failed or key in missing:
                    continue
                texts = self._record.find(key)
                if texts is None:
                    missing[key] = question
                else:
                    self._note(question, texts)
            if missing:
                self._run(list(missing.values()), progress)
        finally:
            self._record.close()

    def _run(self, questions: list[Question], progress: ProgressCallback) -> None:
        options = self._options
        workers = min(options.num_workers, len(questions))
        pool = ProgramPool(options.program, options.timeout_s, workers, _CHUNK)
        done = 0
        try:
            for question in questions:
                self._watch.expect(question.key)
                pool.submit(question)
            while done < len(questions):
                for question, outcome in pool.collect():
                    if not isinstance(outcome, Failure):
                        self._record.add(question.key, outcome)
                    self._note(question, outcome)
                    done += 1
                progress(done, len(questions))
            self._watch.finish()
            pool.close()
        finally:
            pool.kill()

    def _note(self, question: Question, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            self._failed[question.key] = outcome
        else:
            self._answered[question.key] = question, outcome
        self._watch.note_outcome(question, outcome)

    def _answer(self, rollout: RolloutToAsk) -> ExpertAnswer:
        ids = rollout.query.response_ids
        masses: list[Mapping[int, float]] = [{} for _ in ids]
        continuations: list[Continuation] = []
        failures: list[tuple[int, Failure]] = []
        for state in rollout.asked:
            question = rollout.question(state)
            if (failure := self._failed.get(question.key)) is not None:
                failures.append((state, failure))
                continue
            written = self._written(ids[:state], question)
            masses[state] = _first_tokens(written)
            self._counts["labelled_states" if written else "silent_states"] += 1
            if written and self._may_continue(rollout.query):
                continuations.append(self._continuation(state, written[0][0]))
        if failures:
            self._failures.append(failed_row(rollout, failures))
        return ExpertAnswer([], self._scored(masses), tuple(continuations))

    def _may_continue(self, query: ExpertQuery) -> bool:
        self._num_continuations[query.rollout_id] += 1
        return self._num_continuations[query.rollout_id] <= self._options.continuations_per_rollout

    def _written(
        self, prefix_ids: Sequence[int], question: Question
    ) -> list[tuple[list[int], float]]:
        """The tokens of each text that can be used, with its weight."""
        found = [
            (self._tokens.tokens(prefix_ids, question.response_so_far, text), text.weight)
            for text in self._texts(question)
            if text.weight > 0
        ]
        return [(token_ids, weight) for token_ids, weight in found if token_ids]

    def _continuation(self, state: int, token_ids: list[int]) -> Continuation:
        written = token_ids[: self._options.max_new_tokens]
        return Continuation(state, written, self._scored([{token: 1.0} for token in written]))

    def _scored(self, masses: Sequence[Mapping[int, float]]) -> ScoredResponse:
        return scored_labels(
            masses,
            self._options.label_smoothing,
            self._tokens.vocabulary_size,
            self._setting.top_k,
            self._setting.top_p,
        )


def _first_tokens(written: Sequence[tuple[list[int], float]]) -> dict[int, float]:
    """The mixture of the texts' first tokens."""
    total = sum(weight for _, weight in written)
    masses: dict[int, float] = {}
    for token_ids, weight in written:
        masses[token_ids[0]] = masses.get(token_ids[0], 0.0) + weight / total
    return masses


def build(options: Options, setting: ExpertSetting) -> ProgramExpert:
    """setting.policy_dir: a checkpoint with the student's tokenizer."""
    tokenizer = load_tokenizer(setting.policy_dir)
    return ProgramExpert(
        options,
        ContinuedTokens(tokenizer),
        end_token_ids(tokenizer),
        AnswerRecord(setting.record_dir, program_digest(options.program)),
        setting,
    )
