"""What the viewer shows, read from an iteration's tables, in a form that is compact as JSON.

Texts that several samples share stand once (`texts`), and so does each token (`tokens`); samples
name both by number. Keys are short because a page holds thousands of samples.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from distil_core.errors import DataError
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.problems.store import read_problems
from distil_core.tables.schemas import (
    CONSULTATIONS,
    CONTINUATIONS,
    CONTINUATIONS_FOLDER,
    EVALUATION,
    FEEDBACK,
    ROLLOUTS,
    ConsultationRow,
    FeedbackTableRow,
    RolloutRow,
    TurnRow,
)
from distil_core.tables.store import read_rows, read_shards
from distil_core.tables.turns import parts, policys_ids, turn_lengths
from distil_core.workspace import Workspace

Sample = dict[str, Any]


def gather_samples(workspace: Workspace, iteration: int, max_rows: int) -> dict[str, Any]:
    """The iteration's rollouts and its policy's responses to held-out problems, as far as there are
    tables, at most `max_rows` of each. Raises `DataError` where there is no table at all, or one is
    damaged."""
    texts, tokens = _Numbered(), _Numbered()
    sets: dict[str, list[Sample]] = {}
    totals: dict[str, int] = {}
    if iteration and workspace.rollouts_file(iteration).exists():
        rollouts = read_rows(workspace.rollouts_file(iteration), ROLLOUTS)
        totals["rollouts"] = len(rollouts)
        sets["rollouts"] = _rollouts(workspace, iteration, rollouts[:max_rows], texts, tokens)
    if workspace.evaluation_file(iteration).exists():
        totals["evaluation"], sets["evaluation"] = _evaluation(
            workspace, iteration, max_rows, texts
        )
    if not sets:
        folder = workspace.relative(workspace.iteration_dir(iteration))
        raise DataError(
            f"iteration {iteration} has no tables of samples in {folder}: expected "
            "rollouts.parquet or evaluation.parquet. `distil run` makes them, `dvc checkout` (or "
            "`dvc pull`) brings them back"
        )
    return {
        "iteration": iteration,
        "texts": texts.values,
        "tokens": tokens.values,
        "totals": totals,
        "sets": sets,
    }


class _Numbered:
    """Values in the order in which they were first asked for."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self._numbers: dict[Any, int] = {}

    def number(self, key: Any, text: Callable[[], str]) -> int:
        """The number of the value with this key, whose text is made where it is new."""
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(text())
        return self._numbers[key]

    def text(self, value: str) -> int:
        """The number of a text that is its own key."""
        return self.number(value, lambda: value)


class _Reader:
    """Token ids as numbers of texts."""

    def __init__(self, tokenizer: Any, texts: _Numbered, tokens: _Numbered):
        self._tokenizer, self._texts, self._tokens = tokenizer, texts, tokens
        self._ends = end_token_ids(tokenizer)

    def token(self, token_id: int) -> int:
        """Its number."""
        return self._tokens.number(token_id, lambda: self._token_text(token_id))

    def context(self, ids: Sequence[int]) -> int:
        """The number of the text that these tokens are."""
        return self._texts.number(bytes(np.asarray(ids, np.int32)), lambda: self.text(ids))

    def text(self, ids: Sequence[int]) -> str:
        """The text that these tokens are, special ones included."""
        return str(self._tokenizer.decode(np.asarray(ids).tolist()))

    def _token_text(self, token_id: int) -> str:
        return "⏎" if token_id in self._ends else str(self._tokenizer.decode([token_id]))


def _rollouts(
    workspace: Workspace,
    iteration: int,
    rollouts: list[RolloutRow],
    texts: _Numbered,
    tokens: _Numbered,
) -> list[Sample]:
    reader = _Reader(load_tokenizer(workspace.parent_dir(iteration)), texts, tokens)
    prompts = _prompts(workspace, "train")
    samples = {one.rollout_id: _rollout(one, prompts, texts, reader) for one in rollouts}
    if workspace.consultations_file(iteration).exists():
        for row in read_rows(workspace.consultations_file(iteration), CONSULTATIONS):
            if row.rollout_id in samples:
                samples[row.rollout_id] |= _consultation(row)
    folder = workspace.feedback_dir(iteration)
    if folder.exists():
        for table, _ in read_shards(folder, FEEDBACK):
            for each in FEEDBACK.to_rows(table):
                if each.rollout_id in samples:
                    samples[each.rollout_id] |= _expert(each, reader)
        for rollout_id, text in _continuations(workspace, iteration, reader):
            if rollout_id in samples:
                samples[rollout_id].setdefault("w", []).append(text)
    return list(samples.values())


def _rollout(row: RolloutRow, prompts: dict[str, str], texts: _Numbered, reader: _Reader) -> Sample:
    """id; p prompt, c student's context, a response; t the policy's tokens, m their
    log-probabilities under the sampler; f finish reason, e error; v verdict, until a consultation
    says more.

    With turns: y each one's action, answer, feedback as pairs of kind and text, reward and mark; o
    what the environment wrote, as pairs of the number of the policy's tokens before it and text.
    """
    lengths = turn_lengths(row.turns)
    found = {
        "id": row.rollout_id,
        "p": texts.text(prompts.get(row.problem_id, "")),
        "c": reader.context(row.context_ids),
        "a": row.response,
        "t": [reader.token(token) for token in policys_ids(row.response_ids, lengths)],
        "m": _rounded(row.behaviour_logprobs),
        "f": row.finish_reason,
        "v": "error" if row.error else "not judged",
        "e": row.error,
    }
    if not row.turns:
        return found
    ends = accumulate(one.num_tokens for one in row.turns)
    written = [ids for is_policys, ids in parts(row.response_ids, lengths) if not is_policys]
    return found | {
        "y": [_turn(one) for one in row.turns],
        "o": [[end, reader.text(ids)] for end, ids in zip(ends, written, strict=False)],
    }


def _turn(turn: TurnRow) -> list[Any]:
    return [
        turn.action,
        turn.observation,
        [[item.kind, item.text] for item in turn.feedback],
        None if turn.reward is None else round(float(turn.reward), 4),
        int(turn.is_marked),
    ]


def _consultation(row: ConsultationRow) -> Sample:
    """v verdict, r reward, b feedback as pairs of kind and text, e error."""
    found = {
        "v": row.verdict,
        "r": None if row.reward is None else round(float(row.reward), 4),
        "b": [[item.kind, item.text] for item in row.feedback],
    }
    return found | ({"e": row.error} if row.error else {})


def _expert(row: FeedbackTableRow, reader: _Reader) -> Sample:
    """s silent; x its context; l its log-probability of each token, or of its whole tail where the
    token is not stored (u: those positions); g its likeliest tokens, h their log-probabilities."""
    if not row.has_expert:
        return {"s": 1}
    counts_t = np.asarray(row.expert_counts, np.int64)
    starts = np.concatenate([[0], np.cumsum(counts_t)])
    ids, logprobs = np.asarray(row.expert_ids), np.asarray(row.expert_logprobs, np.float64)
    sampled: list[float] = []
    unstored: list[int] = []
    likeliest, likeliest_logprobs = [], []
    for position, token in enumerate(policys_ids(row.response_ids, list(row.turn_lengths))):
        stored = slice(starts[position], starts[position + 1])
        (places,) = np.nonzero(ids[stored] == token)
        if len(places):
            sampled.append(float(logprobs[stored][places[0]]))
        else:
            unstored.append(position)
            sampled.append(float(row.expert_tail_logprobs[position]))
        has_any = counts_t[position] > 0
        likeliest.append(reader.token(int(ids[stored][0])) if has_any else -1)
        likeliest_logprobs.append(float(logprobs[stored][0]) if has_any else 0.0)
    found: Sample = {
        "s": 0,
        "l": _rounded(sampled),
        "u": unstored,
        "g": likeliest,
        "h": _rounded(likeliest_logprobs),
    }
    if len(row.expert_context_ids):
        found["x"] = reader.context(row.expert_context_ids)
    return found


def _continuations(
    workspace: Workspace, iteration: int, reader: _Reader
) -> Iterator[tuple[str, str]]:
    folder = workspace.feedback_dir(iteration) / CONTINUATIONS_FOLDER
    if folder.exists():
        for table, _ in read_shards(folder, CONTINUATIONS):
            for row in CONTINUATIONS.to_rows(table):
                yield row.rollout_id, reader.text(row.response_ids)


def _evaluation(
    workspace: Workspace, iteration: int, max_rows: int, texts: _Numbered
) -> tuple[int, list[Sample]]:
    """How many problems there are, and of the first ones: d split, n samples and k of them right;
    first response, its verdict, what the expert read and answered, and how often it was right."""
    rows = read_rows(workspace.evaluation_file(iteration), EVALUATION)
    prompts = _prompts(workspace, "eval") | _prompts(workspace, "generalisation")
    samples = [
        {
            "id": row.problem_id,
            "p": texts.text(prompts.get(row.problem_id, "")),
            "d": row.split,
            "a": row.first_response,
            "v": row.first_verdict,
            "n": int(row.num_samples),
            "k": int(row.num_correct),
            "s": int(row.expert_num_samples == 0),
            "b": [] if row.expert_feedback is None else [["feedback", row.expert_feedback]],
            "w": [] if row.expert_response is None else [row.expert_response],
            "o": int(row.expert_num_samples),
            "q": int(row.expert_num_correct),
        }
        for row in rows[:max_rows]
    ]
    return len(rows), samples


def _prompts(workspace: Workspace, split: str) -> dict[str, str]:
    """By problem; empty where the file is not here, since only the tables are needed."""
    file = workspace.problems_dir / f"{split}.parquet"
    return {one.problem_id: one.prompt for one in read_problems(file)} if file.exists() else {}


def _rounded(values: Any) -> list[float | None]:
    """To two decimals, which is what is shown; None for a probability of zero."""
    return [round(float(value), 2) if np.isfinite(value) else None for value in np.asarray(values)]
