"""A text-only expert behind any OpenAI-compatible endpoint: DAgger labels at the student's states.

At a state the expert gets the feedback and what the student wrote so far, and continues it. The
label is the token that its text begins with, in the student's tokenizer; several samples make an
empirical distribution. The rest of its text can become rows of its own
(`continuations_per_rollout`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from string import Formatter
from typing import Any

from distil_core.engines.base import ScoredResponse
from distil_core.errors import ConfigError
from distil_core.experts._answers import read_message, read_text
from distil_core.experts._black_box_options import RESPONSE_FIELD, Options
from distil_core.experts._endpoint import Budget, Endpoint
from distil_core.experts._text_labels import TextLabels
from distil_core.experts.base import Continuation, ExpertAnswer, ExpertQuery, ExpertSetting
from distil_core.experts.labels import scored_labels
from distil_core.experts.response_record import (
    Completion,
    Request,
    ResponseRecord,
    save_responses,
)
from distil_core.files import write_text
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed, generator

COUNTS_FILE = "expert_counts.json"


class BlackBoxExpert:
    """Asks only once about equal states, at any positions and in any rollouts."""

    def __init__(
        self,
        options: Options,
        labels: TextLabels,
        record: ResponseRecord,
        top_k: int,
        top_p: float,
        seed: int,
    ):
        self.needs_feedback = options.needs_feedback
        self._options = options
        self._labels = labels
        self._record = record
        self._top_k = top_k
        self._top_p = top_p
        self._seed = seed
        self._budget = Budget(options.limits())
        self._answered: dict[str, tuple[Request, Completion]] = {}
        self._num_silent = 0

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """Labels at the states of each rollout that were asked about. Raises `ExpertError` when
        the endpoint cannot be asked or the budget is spent; answers received until then are
        recorded."""
        asked = [self._asked_states(query) for query in queries]
        self._ask([r for states in asked for group in states.values() for r in group], progress)
        return [self._answer(query, states) for query, states in zip(queries, asked, strict=True)]

    def save_record(self, folder: Path) -> None:
        """Write `responses.jsonl`, with all answers, and `expert_counts.json`, with costs and
        unused answers."""
        answered = list(self._answered.values())
        save_responses(folder, answered)
        counts = {
            "requests": len(answered),
            "tokens": sum(completion.total_tokens or 0 for _, completion in answered),
            "silent_rollouts": self._num_silent,
            **self._labels.counts,
        }
        write_text(folder / COUNTS_FILE, json.dumps(counts, indent=1, sort_keys=True) + "\n")

    def _asked_states(self, query: ExpertQuery) -> dict[int, list[Request]]:
        """The requests for each position to ask about, in the seeded order of choosing."""
        order = generator(self._seed, "expert", "states", query.rollout_id)
        positions = order.permutation(len(query.response_ids))[: self._options.states_per_rollout]
        states = {}
        for position in positions.tolist():
            prefix = self._labels.prefix_text(query.response_ids[:position])
            if prefix is not None:
                states[position] = list(self._requests(query, prefix))
        return states

    def _requests(self, query: ExpertQuery, prefix: str) -> Iterator[Request]:
        options = self._options
        text, holds_prefix = _filled(options.template, {**query.values, RESPONSE_FIELD: prefix})
        asked: dict[str, Any]
        if options.api == "completions":
            path, asked = "completions", {"prompt": text}
        else:
            messages = [{"role": "user", "content": text}]
            if not holds_prefix:
                messages.append({"role": "assistant", "content": prefix})
            path, asked = "chat/completions", {"messages": messages}
        body = {
            "model": options.model,
            "temperature": options.temperature,
            "max_tokens": options.max_new_tokens,
            **asked,
        }
        for sample in range(options.num_samples):
            # By the question, not the rollout: equal states are asked about, and paid for, once.
            seed = derive_seed(self._seed, "expert", repr(asked), sample) % 2**31
            url = f"{options.base_url}/{path}"
            asked_for = {**body, "seed": seed, **options.extra_body}
            left_out = {name for name, value in options.extra_body.items() if value is None}
            yield Request(url, {k: v for k, v in asked_for.items() if k not in left_out})

    def _ask(self, requests: Sequence[Request], progress: ProgressCallback) -> None:
        """Put an answer to each request into `_answered`, from the record or from the endpoint."""
        missing: dict[str, Request] = {}
        for request in requests:
            if request.digest in self._answered or request.digest in missing:
                continue
            completion = self._record.find(request)
            if completion is None:
                missing[request.digest] = request
            else:
                self._answered[request.digest] = (request, completion)
                self._budget.count_recorded(completion)
        if missing:
            self._send(list(missing.values()), progress)

    def _send(self, requests: list[Request], progress: ProgressCallback) -> None:
        options = self._options
        read = read_text if options.api == "completions" else read_message
        endpoint = Endpoint(
            options.base_url, options.limits(), self._budget, options.api_key(), options.concurrency
        )

        def ask(request: Request) -> tuple[Request, Completion]:
            completion = endpoint.complete(request, read)
            self._record.add(request, completion)
            return request, completion

        executor = ThreadPoolExecutor(options.concurrency)
        try:
            futures = [executor.submit(ask, request) for request in requests]
            for done, future in enumerate(as_completed(futures), start=1):
                request, completion = future.result()
                self._answered[request.digest] = (request, completion)
                progress(done, len(requests))
        finally:
            endpoint.stop()
            # Wait for answers under way, as they are paid for, and record them.
            executor.shutdown(cancel_futures=True)
            endpoint.close()

    def _answer(self, query: ExpertQuery, states: Mapping[int, list[Request]]) -> ExpertAnswer:
        masses: list[dict[int, float]] = [{} for _ in query.response_ids]
        continuations: list[Continuation] = []
        for position, requests in states.items():
            prefix_ids = query.response_ids[:position]
            written = [
                self._labels.tokens(prefix_ids, self._answered[request.digest][1])
                for request in requests
            ]
            said = [token_ids for token_ids in written if token_ids]
            for token_ids in said:
                label = token_ids[0]
                masses[position][label] = masses[position].get(label, 0.0) + 1.0 / len(said)
            if said and len(continuations) < self._options.continuations_per_rollout:
                continuations.append(self._continuation(position, said[0]))
        if not any(masses):
            self._num_silent += 1
        return ExpertAnswer([], self._scored(masses), tuple(continuations))

    def _continuation(self, position: int, token_ids: list[int]) -> Continuation:
        written = token_ids[: self._options.max_new_tokens]
        return Continuation(position, written, self._scored([{token: 1.0} for token in written]))

    def _scored(self, masses: Sequence[Mapping[int, float]]) -> ScoredResponse:
        return scored_labels(
            masses,
            self._options.label_smoothing,
            self._labels.vocabulary_size,
            self._top_k,
            self._top_p,
        )


def _filled(template: str, values: Mapping[str, str]) -> tuple[str, bool]:
    """The template with its fields filled in once (braces in content stay), and whether the
    response so far is one of the fields."""
    parts, holds_prefix = [], False
    for literal, field, _, _ in Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            parts.append(values.get(field, ""))
            holds_prefix = holds_prefix or field == RESPONSE_FIELD
    return "".join(parts), holds_prefix


def build(options: Options, setting: ExpertSetting) -> BlackBoxExpert:
    """setting.policy_dir: a checkpoint with the student's tokenizer."""
    if setting.record_dir is None:
        raise ConfigError("expert 'black_box' needs a folder to record answers in, found none")
    return BlackBoxExpert(
        options,
        TextLabels(load_tokenizer(setting.policy_dir)),
        ResponseRecord(setting.record_dir),
        setting.top_k,
        setting.top_p,
        setting.seed,
    )
