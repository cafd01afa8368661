"""A model behind vLLM's OpenAI-compatible server as expert: its most likely tokens at each state.

It reads the feedback and the student's response as token ids, and the server lists the most likely
tokens, with their log-probabilities, at each of the response's. Where its tokenizer is another one,
its distributions are mapped onto the student's tokens (`_served_alignment`). Answers are recorded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from distil_core.errors import ConfigError, ExpertError
from distil_core.experts._served_alignment import OtherTokens
from distil_core.experts._served_answers import (
    Distribution,
    damaged,
    distributions,
    stored,
    unpacked,
)
from distil_core.experts._served_options import Options
from distil_core.experts._served_server import (
    Prompt,
    ScoringServer,
    sampling_request,
    scoring_request,
)
from distil_core.experts.base import ExpertAnswer, ExpertQuery, ExpertSetting
from distil_core.experts.end_tokens import OtherEnds
from distil_core.experts.response_record import (
    Completion,
    Request,
    ResponseRecord,
    save_responses,
)
from distil_core.files import write_text
from distil_core.policy.known_tokens import num_known_tokens
from distil_core.policy.tokenizer import load_tokenizer, vocabulary_digest
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COUNTS_FILE = "expert_counts.json"


class Reader(Protocol):
    """Between the student's tokens and the expert's. tokenizer: the server's. vocabulary_size: of
    its tokens. counts: states by what became of them."""

    tokenizer: PreTrainedTokenizerBase
    vocabulary_size: int
    counts: dict[str, int]

    def prompt(self, query: ExpertQuery) -> Prompt:
        """What the server is asked about."""
        ...

    def labels(
        self, query: ExpertQuery, states: Sequence[Distribution]
    ) -> Sequence[Distribution | None]:
        """Of each of the student's states; None where these say nothing. states: one for each token
        of the prompt from its `start` on."""
        ...

    def answer(self, query: ExpertQuery, labels: Sequence[Distribution | None]) -> ExpertAnswer:
        """labels: one for each token of the response."""
        ...


class SameTokens:
    """The expert reads the student's tokens."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: OtherEnds | None,
        setting: ExpertSetting,
    ):
        self.tokenizer = tokenizer
        self.vocabulary_size = num_known_tokens(setting.policy_dir) or len(tokenizer)
        self.counts: dict[str, int] = {}
        self._ends = ends
        self._setting = setting

    def prompt(self, query: ExpertQuery) -> Prompt:
        """The context and the response. `ExpertError` for a context that is too long or empty."""
        length, most = len(query.context_ids), self._setting.max_context_tokens
        if not 0 < length <= most:
            raise ExpertError(
                f"an expert context has {length} tokens, expected 1 to {most} "
                "(context.max_context_tokens): raise it, or shorten context.expert_template; "
                "contexts are never cut silently"
            )
        return Prompt([*query.context_ids, *query.response_ids], length)

    def labels(
        self, query: ExpertQuery, states: Sequence[Distribution]
    ) -> Sequence[Distribution | None]:
        """The states are the student's."""
        return states

    def answer(self, query: ExpertQuery, labels: Sequence[Distribution | None]) -> ExpertAnswer:
        """The distributions, with the student's end for the expert's own."""
        scored = stored(labels, self._setting.top_k, self._setting.top_p)
        if self._ends is not None:
            scored = self._ends.in_distribution(scored)
        return ExpertAnswer(list(query.context_ids), scored)


class ServedExpert:
    """Asks only once about equal contexts and responses."""

    def __init__(
        self, options: Options, reader: Reader, record: ResponseRecord, setting: ExpertSetting
    ):
        self.needs_feedback = options.needs_feedback
        self._options = options
        self._reader = reader
        self._record = record
        self._setting = setting
        self._top_k = min(setting.top_k, reader.vocabulary_size)
        self._vocabulary = vocabulary_digest(reader.tokenizer)
        self._answered: dict[str, tuple[Request, Completion]] = {}
        self._server: dict[str, Any] = {}

    def answer(
        self, queries: Sequence[ExpertQuery], progress: ProgressCallback
    ) -> list[ExpertAnswer]:
        """The distribution at each state. Raises `ExpertError` when the server cannot be asked, or
        has other tokens than it should; answers received until then are recorded."""
        prompts = [self._reader.prompt(query) for query in queries]
        top_k, top_p = self._top_k, self._setting.top_p
        requests = [scoring_request(self._options, prompt, top_k, top_p) for prompt in prompts]
        self._ask(list(zip(requests, prompts, strict=True)), progress)
        labels = [
            list(self._reader.labels(query, self._states(request)))
            for query, request in zip(queries, requests, strict=True)
        ]
        if self._options.samples_per_state and isinstance(self._reader, OtherTokens):
            self._sample(self._reader, queries, labels, progress)
        return [
            self._reader.answer(query, found) for query, found in zip(queries, labels, strict=True)
        ]

    def save_record(self, folder: Path) -> None:
        """Write `responses.jsonl`, with all answers, and `expert_counts.json`, with the servers
        that gave them."""
        answered = list(self._answered.values())
        save_responses(folder, answered)
        servers = {json.dumps(_entry(answer)["server"], sort_keys=True) for _, answer in answered}
        counts: dict[str, Any] = {
            "requests": len(answered),
            "tokens": sum(answer.total_tokens or 0 for _, answer in answered),
            "servers": [json.loads(server) for server in sorted(servers)],
            **self._reader.counts,
        }
        write_text(folder / COUNTS_FILE, json.dumps(counts, indent=1, sort_keys=True) + "\n")

    def _sample(
        self,
        reader: OtherTokens,
        queries: Sequence[ExpertQuery],
        labels: Sequence[list[Distribution | None]],
        progress: ProgressCallback,
    ) -> None:
        """Fill in labels where there are none, from sampled answers."""
        asked: list[tuple[list[Distribution | None], int, list[Request]]] = []
        prompts: list[tuple[Request, Prompt]] = []
        for query, found in zip(queries, labels, strict=True):
            for position, prefix_ids in reader.prefixes(query, found).items():
                requests = [
                    # By the question, not the rollout: equal states are asked about once.
                    sampling_request(self._options, prefix_ids, self._seed(prefix_ids, sample))
                    for sample in range(self._options.samples_per_state)
                ]
                asked.append((found, position, requests))
                prompts += [(request, Prompt(prefix_ids, len(prefix_ids))) for request in requests]
        self._ask(prompts, progress)
        for found, position, requests in asked:
            answers = [_entry(self._answered[one.digest][1])["token_ids"] for one in requests]
            found[position] = reader.sampled(answers)

    def _seed(self, prefix_ids: Sequence[int], sample: int) -> int:
        return derive_seed(self._setting.seed, "expert", repr(prefix_ids), sample) % 2**31

    def _states(self, request: Request) -> list[Distribution]:
        listed = unpacked(_entry(self._answered[request.digest][1]))
        return distributions(listed, self._reader.vocabulary_size)

    def _ask(self, asked: Sequence[tuple[Request, Prompt]], progress: ProgressCallback) -> None:
        """Put an answer to each request into `_answered`, from the record or from the server."""
        missing: dict[str, tuple[Request, Prompt]] = {}
        for request, prompt in asked:
            digest = request.digest
            if digest in self._answered or digest in missing:
                continue
            answer = self._record.find(request)
            # Of the same ids, once, in another tokenizer: another question.
            if answer is None or _entry(answer)["server"]["vocabulary"] != self._vocabulary:
                missing[digest] = request, prompt
            else:
                self._answered[digest] = request, answer
        if missing:
            self._send(list(missing.values()), progress)

    def _send(self, asked: Sequence[tuple[Request, Prompt]], progress: ProgressCallback) -> None:
        server = ScoringServer(self._options, self._reader.tokenizer, self._setting.top_p)
        executor = ThreadPoolExecutor(self._options.concurrency)

        def ask(request: Request, prompt: Prompt) -> tuple[Request, Completion]:
            answer = server.ask(request, prompt)
            self._record.add(request, answer)
            return request, answer

        try:
            self._server = server.check(self._server)
            futures = [executor.submit(ask, request, prompt) for request, prompt in asked]
            for done, future in enumerate(as_completed(futures), start=1):
                request, answer = future.result()
                self._answered[request.digest] = request, answer
                progress(done, len(asked))
        finally:
            server.stop()
            executor.shutdown(cancel_futures=True)
            server.close()


def _entry(answer: Completion) -> Any:
    """What is recorded of an answer. Raises `DataError` where that does not say who gave it."""
    try:
        entry = json.loads(answer.text or "")
        if not isinstance(entry["server"]["vocabulary"], str):
            raise TypeError("no server")
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(error) from error
    return entry


def build(options: Options, setting: ExpertSetting) -> ServedExpert:
    """setting.policy_dir: a checkpoint with the student's tokenizer. Nothing is asked yet."""
    if setting.record_dir is None:
        raise ConfigError("expert 'served' needs a folder to record answers in, found none")
    record = ResponseRecord(setting.record_dir)
    return ServedExpert(options, _reader(options, setting), record, setting)


def _reader(options: Options, setting: ExpertSetting) -> Reader:
    student = load_tokenizer(setting.policy_dir)
    if options.tokenizer is None:
        return SameTokens(student, None, setting)
    folder = Path(options.tokenizer)
    if not folder.is_dir():
        raise ConfigError(
            f"tabulate.expert.options.tokenizer {options.tokenizer!r} of expert 'served' is no "
            "folder: expected one with tokenizer_config.json and tokenizer.json"
        )
    tokenizer = load_tokenizer(folder)
    if vocabulary_digest(tokenizer) != vocabulary_digest(student):
        if options.template is None:
            raise ConfigError(
                f"the tokenizer in {folder} is not the student's: say what the expert reads as "
                "tabulate.expert.options.template, so that its distributions are mapped onto the "
                "student's tokens where both have a boundary (docs/experts.md)"
            )
        return OtherTokens(options, student, tokenizer, folder, setting)
    if options.template is not None:
        raise ConfigError(
            f"the tokenizer in {folder} has the student's tokens: the expert reads "
            "context.expert_template then, so leave tabulate.expert.options.template out"
        )
    return SameTokens(student, OtherEnds.between(student, tokenizer), setting)
