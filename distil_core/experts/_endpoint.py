"""One OpenAI-compatible HTTP endpoint: retries, rate limit, timeouts and a budget."""

import email.utils
import json
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from distil_core.credentials import MASK, is_loopback, masked
from distil_core.errors import ExpertError, ExpertUnavailableError
from distil_core.experts._bounded import Deadline, bounded_content
from distil_core.experts.response_record import Completion, Request

logger = logging.getLogger(__name__)

_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_REFUSED_PARAMETER_STATUS = frozenset({400, 422})
_EXCERPT_CHARACTERS = 300


@dataclass(frozen=True)
class Limits:
    """timeout_s: for one attempt, from its start to the answer's last byte. backoff_s: the first
    pause, doubled at each further attempt up to max_pause_s; a random part of it, from half to all,
    is waited. A longer Retry-After is an error. max_response_bytes: of an answer, unpacked."""

    timeout_s: float
    max_attempts: int
    backoff_s: float
    max_pause_s: float
    requests_per_second: float | None
    max_requests: int | None
    max_tokens: int | None
    max_response_bytes: int


class Budget:
    """Requests and tokens spent on a table. Recorded answers count like new ones, so that the cap
    means the same in every run, but only requests that would be sent are stopped."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._lock = threading.Lock()
        self.requests = 0
        self.tokens = 0

    def count_recorded(self, completion: Completion) -> None:
        """Count a request whose answer is recorded."""
        with self._lock:
            self.requests += 1
            self.tokens += completion.total_tokens or 0

    def before_sending(self) -> None:
        """Count one request. Raises `ExpertError` where it exceeds the cap, or the tokens are
        spent. Requests already under way may exceed the cap on tokens by their own."""
        with self._lock:
            for name, spent, cap in (
                ("max_requests", self.requests, self._limits.max_requests),
                ("max_tokens", self.tokens, self._limits.max_tokens),
            ):
                if cap is not None and spent >= cap:
                    raise ExpertError(
                        f"tabulate.expert.options.{name} {cap} is spent: {self.requests} requests "
                        f"and {self.tokens} tokens so far. Answers are recorded: raise it and run "
                        "again to go on from here, or ask less (states_per_rollout, num_samples)"
                    )
            self.requests += 1

    def after_answer(self, completion: Completion) -> None:
        """Count the answer's tokens."""
        if completion.total_tokens is None and self._limits.max_tokens is not None:
            raise ExpertError(
                "the endpoint does not say how many tokens an answer used (usage.total_tokens), "
                "so max_tokens cannot be held: cap max_requests instead"
            )
        with self._lock:
            self.tokens += completion.total_tokens or 0


class Endpoint:
    """Thread-safe. api_key: sent as a bearer token to `base_url` only, never to a redirect's
    target, and removed from every message and answer."""

    def __init__(
        self,
        base_url: str,
        limits: Limits,
        budget: Budget,
        api_key: str | None,
        connections: int,
    ):
        self._limits = limits
        self._budget = budget
        self._api_key = api_key
        self._deadline = Deadline()
        self._client = self._deadline.bind(
            httpx.Client(
                # What is sent unpacked cannot grow here; an endpoint that packs all the same is
                # unpacked within bounds.
                headers={"Accept-Encoding": "identity"}
                | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
                timeout=limits.timeout_s,
                limits=httpx.Limits(max_connections=connections),
                follow_redirects=False,
                # A proxy cannot reach this machine itself.
                trust_env=not is_loopback(base_url),
            )
        )
        self._renames_max_tokens = False
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._next_slot = 0.0

    def stop(self) -> None:
        """Start no further attempt; those under way still get their answer."""
        self._stopped.set()

    def close(self) -> None:
        """Close all connections, when no request is under way."""
        self._client.close()

    def complete(
        self, request: Request, read: Callable[[dict[str, Any]], Completion]
    ) -> Completion:
        """Ask until answered. Raises `ExpertError` when the endpoint refuses, stays unreachable
        through all attempts, or the budget is spent. `read` raises `ValueError` for a malformed
        answer."""
        failure, attempt = "", 0
        while attempt < self._limits.max_attempts:
            if failure:
                logger.warning("expert endpoint: %s; attempt %d", failure, attempt + 1)
            self._wait_for_slot()
            self._budget.before_sending()
            pause_s = min(self._limits.backoff_s * 2**attempt, self._limits.max_pause_s)
            # Jitter, so that requests that failed together do not come again together. It moves
            # times only, no answer depends on it.
            pause_s *= random.uniform(0.5, 1.0)
            attempt += 1
            is_last = attempt == self._limits.max_attempts
            body = self._body(request)
            try:
                response = self._post(request.url, body)
            except httpx.RequestError as error:
                failure = f"{type(error).__name__}: {self._without_key(str(error))}"
                self._pause(0.0 if is_last else pause_s)
                continue
            if response.status_code in _TRANSIENT_STATUS:
                failure = self._describe(response)
                self._postpone(max(pause_s, self._retry_after_s(response)))
                continue
            if self._asks_for_the_newer_name(response, body):
                # Asking the same question with the other name of the limit is not another attempt.
                self._renames_max_tokens, attempt = True, attempt - 1
                continue
            if response.status_code != httpx.codes.OK:
                raise ExpertError(
                    f"{request.url} refused: {self._describe(response)}. Check base_url, model, "
                    "api_key_variable and extra_body of tabulate.expert.options (a field that is "
                    "null in extra_body is not sent)"
                )
            try:
                completion = read(response.json())
            except (ValueError, RecursionError) as error:
                why = self._without_key(str(error))
                failure = f"malformed answer ({why}): {self._excerpt(response)}"
                self._pause(0.0 if is_last else pause_s)
                continue
            self._budget.after_answer(completion)
            return completion
        raise ExpertUnavailableError(
            f"{request.url} gave no answer in {self._limits.max_attempts} attempts; the last "
            f"failed with {failure}. Answers so far are recorded: run again to go on from here"
        )

    def _body(self, request: Request) -> dict[str, Any]:
        """The body to send. The record holds the question as asked, whatever the endpoint calls the
        limit on its answer."""
        body = dict(request.body)
        if self._renames_max_tokens and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return body

    def _asks_for_the_newer_name(self, response: httpx.Response, body: dict[str, Any]) -> bool:
        return (
            response.status_code in _REFUSED_PARAMETER_STATUS
            and "max_tokens" in body
            and "max_completion_tokens" in response.text
        )

    def _post(self, url: str, body: dict[str, Any]) -> httpx.Response:
        """The whole answer, within its time and size. httpx only bounds the wait for each piece, so
        an endpoint that sends a byte now and then would never time out."""
        with (
            self._deadline.within(self._limits.timeout_s),
            self._client.stream(
                "POST",
                url,
                content=json.dumps(body, allow_nan=False).encode(),
                headers={"Content-Type": "application/json"},
            ) as response,
        ):
            content = bounded_content(response, self._limits.max_response_bytes)
        if self._api_key:
            content = content.replace(self._api_key.encode(), MASK.encode())
        decoded = {"content-encoding", "content-length", "transfer-encoding"}
        headers = [pair for pair in response.headers.items() if pair[0] not in decoded]
        return httpx.Response(response.status_code, headers=headers, content=content)

    def _wait_for_slot(self) -> None:
        """Wait for this request's turn: requests start evenly spaced, and not before the time the
        endpoint asked for."""
        with self._lock:
            now = time.monotonic()
            slot = max(now, self._next_slot)
            rate = self._limits.requests_per_second
            self._next_slot = slot + (1.0 / rate if rate else 0.0)
        self._pause(slot - now)

    def _postpone(self, pause_s: float) -> None:
        """Pause all threads, to give an overloaded endpoint a rest."""
        with self._lock:
            self._next_slot = max(self._next_slot, time.monotonic() + pause_s)

    def _pause(self, pause_s: float) -> None:
        if self._stopped.wait(max(0.0, pause_s)):
            raise ExpertError("stopped asking, because another request failed")

    def _retry_after_s(self, response: httpx.Response) -> float:
        """Seconds to wait by Retry-After, which may be a number or a date (RFC 9110); 0 where it is
        missing or cannot be read."""
        value = response.headers.get("Retry-After", "").strip()
        if not value:
            return 0.0
        if value.replace(".", "", 1).isdecimal():
            seconds = float(value)
        else:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except ValueError:
                return 0.0
        if seconds > self._limits.max_pause_s:
            raise ExpertUnavailableError(
                f"the endpoint asks to wait {seconds:.0f} s (Retry-After), max_pause_s is "
                f"{self._limits.max_pause_s:g}: run again later, answers so far are recorded"
            )
        return max(0.0, seconds)

    def _describe(self, response: httpx.Response) -> str:
        return f"HTTP {response.status_code}: {self._excerpt(response)}"

    def _excerpt(self, response: httpx.Response) -> str:
        return repr(self._without_key(response.text)[:_EXCERPT_CHARACTERS])

    def _without_key(self, text: str) -> str:
        """The text without credentials: some endpoints quote the key they were sent."""
        return masked(text.replace(self._api_key, MASK) if self._api_key else text)
