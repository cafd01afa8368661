"""vLLM in servers: requests are spread over them, and those of a lost server are sent to
another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import numpy as np

from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.engines.vllm.backend import (
    ModelLimits,
    Policy,
    Sampled,
    TopK,
    Unanswered,
    sampling_arguments,
    scoring_arguments,
    split_tails,
)
from distil_core.engines.vllm.managed import ManagedServer
from distil_core.engines.vllm.options import Options
from distil_core.engines.vllm.places import Places
from distil_core.engines.vllm.worker import EXTENSION
from distil_core.errors import EngineError, EngineRefusedError

_GENERATE = "/inference/v1/generate"
_EXCERPT_CHARACTERS = 500
_NO_MASS = -9999.0
"""How vLLM writes minus infinity in JSON."""

Result = TypeVar("Result")


_ABOUT_THE_REQUEST = (400, 413, 422)
"""Refusals of what is asked; others are of the server's kind, whatever it is asked."""


class _RefusedRequestError(EngineRefusedError):
    """The server refuses what it is asked."""


class _RequestFailed(Exception):
    """The server goes on, but has no answer to this request."""


class _ServerLost(Exception):
    """This server can no longer be asked; another may be."""


class _ServerFailed(_ServerLost):
    """It answered that it met an error of its own: with this request, or for good."""


class _Server:
    """One server. failure: why it is not used any more; empty while it is."""

    def __init__(self, base_url: str, client: httpx.Client):
        self.base_url = base_url
        self.failure = ""
        self.under_way = 0
        self.loaded: Policy | None = None
        self._client = client

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The server's answer. Raises `_ServerLost` where there is none, `EngineError` where it
        refuses."""
        try:
            response = self._client.post(f"{self.base_url}{path}", json=body)
        except httpx.TransportError as error:
            raise _ServerLost(f"{type(error).__name__}: {error}") from error
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _ServerFailed(f"HTTP {response.status_code}: {_excerpt(response)}")
        if not response.is_success:
            about_the_request = response.status_code in _ABOUT_THE_REQUEST
            raise (_RefusedRequestError if about_the_request else EngineRefusedError)(
                f"{self.base_url}{path} refused: HTTP {response.status_code}: {_excerpt(response)}"
                f"\nA vLLM 0.32 server for this engine is started with VLLM_SERVER_DEV_MODE=1, "
                f"VLLM_USE_V2_MODEL_RUNNER=0 and the arguments --enable-scale-out "
                f"--skip-tokenizer-init "
                f"--logprobs-mode processed_logprobs --generation-config vllm --max-logprobs K "
                f"--worker-extension-cls {EXTENSION}"
            )
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise _ServerLost(f"no JSON in its answer: {_excerpt(response)}") from error

    def generate(self, body: dict[str, Any]) -> Any:
        """What it samples for one request. `_RequestFailed` where it is this request that it has
        no answer to: it answers others, or at least says that it is well."""
        try:
            (choice,) = self.post(_GENERATE, body)["choices"]
        except _RefusedRequestError as refused:
            raise _RequestFailed(str(refused)) from refused
        except _ServerFailed as failed:
            if not self._is_well():
                raise
            raise _RequestFailed(str(failed)) from failed
        if choice["finish_reason"] not in ("stop", "length"):
            raise _RequestFailed(f"it ended with {choice['finish_reason']!r}")
        return choice

    def _is_well(self) -> bool:
        try:
            return self._client.get(f"{self.base_url}/health").is_success
        except httpx.TransportError:
            return False

    def rpc(self, method: str, *arguments: str) -> Any:
        """The first worker's result of a method of `PolicyWorker`."""
        body = {"method": method, "args": list(arguments)}
        answer = self.post("/collective_rpc", body)
        return answer["results"][0] if answer else None


class ServersBackend:
    """own: the server that this process started, if any, to be ended with the backend."""

    def __init__(
        self, options: Options, base_urls: Sequence[str], own: ManagedServer | None = None
    ):
        self._own = own
        self._options = options
        limits = httpx.Limits(max_connections=options.connections * len(base_urls))
        self._client = httpx.Client(
            timeout=options.request_timeout_s,
            limits=limits,
            transport=own.transport(limits) if own else None,
            trust_env=False,
        )
        self._servers = [_Server(url.rstrip("/"), self._client) for url in base_urls]
        self._condition = threading.Condition()
        self._places: Places[_Server] | None = None
        try:
            self.limits = self._describe_all()
        except BaseException:
            self.close()
            raise

    def ensure_loaded(self, policy: Policy, check: Callable[[], object]) -> None:
        """See `Backend`. A server that was lost is asked again, as one that was restarted has none
        of our policies. Every server whose weights changed is checked on its own."""
        for server in self._servers:
            try:
                loaded = server.rpc("distil_loaded_policy")
                if server.loaded == policy and loaded == policy.identity:
                    server.failure = ""
                    continue
                server.loaded = None
                self._load(server, policy)
                server.failure = ""
                self._checked_alone(server, check)
                server.loaded = policy
            except _ServerLost as lost:
                server.loaded, server.failure = None, str(lost)
        self._require_one()

    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        end_token_ids: Sequence[int],
        done: Callable[[int], None],
    ) -> list[Sampled | Unanswered]:
        def ask(server: _Server, request: SampleRequest) -> Sampled | Unanswered:
            body = {
                "token_ids": list(request.context_ids),
                "sampling_params": sampling_arguments(request, settings, end_token_ids),
            }
            try:
                choice = server.generate(body)
            except _RequestFailed:
                # What was an accident is not met again.
                try:
                    choice = server.generate(body)
                except _RequestFailed as failed:
                    return Unanswered(str(failed))
            logprobs = [entry["logprob"] for entry in choice["logprobs"]["content"]]
            self._remember(server, [*request.context_ids, *choice["token_ids"]])
            return Sampled(choice["token_ids"], logprobs)

        return self._spread(requests, ask, done)

    @contextmanager
    def continuing(self) -> Iterator[None]:
        """See `Backend`: a request goes to the server that sampled what its context begins with,
        unless that one is lost or has as many requests as it may."""
        self._places = Places()
        try:
            yield
        finally:
            self._places = None

    def score(
        self, sequences: Sequence[tuple[list[int], int]], top_k: int, done: Callable[[int], None]
    ) -> list[TopK]:
        def ask(server: _Server, sequence: tuple[list[int], int]) -> TopK:
            token_ids, start = sequence
            body = {"token_ids": token_ids, "sampling_params": scoring_arguments(top_k)}
            positions = server.post(_GENERATE, body)["prompt_logprobs"][start:]
            ids = np.array([[int(token) for token in position] for position in positions])
            logprobs = np.array(
                [[entry["logprob"] for entry in position.values()] for position in positions]
            )
            logprobs[logprobs <= _NO_MASS] = -np.inf
            scored = split_tails(ids, logprobs, self.limits)
            if scored is None:
                raise _ServerLost("it does not report tails any more: was it started anew?")
            return scored

        return self._spread(sequences, ask, done)

    def ended(self) -> bool:
        return self._own is not None and self._own.ended()

    def close(self) -> None:
        self._client.close()
        if self._own:
            self._own.close()

    def _describe_all(self) -> ModelLimits:
        found: dict[str, ModelLimits] = {}
        for server in self._servers:
            try:
                found[server.base_url] = ModelLimits.parse(server.rpc("distil_describe"))
            except _ServerLost as lost:
                server.failure = str(lost)
        self._require_one()
        if len(set(found.values())) > 1:
            raise EngineRefusedError(
                f"the servers differ in vocabulary, max_model_len or max_logprobs: {found}; start "
                "them with the same arguments"
            )
        return next(iter(found.values()))

    def _load(self, server: _Server, policy: Policy) -> None:
        server.rpc("distil_report_tails")
        server.rpc("distil_load_policy", str(policy.folder), policy.identity)
        if not server.post("/reset_prefix_cache")["success"]:
            raise EngineError(
                f"{server.base_url} kept its prefix cache, which is the former policy's: does "
                "another program use this server?"
            )

    def _checked_alone(self, server: _Server, check: Callable[[], object]) -> None:
        servers, self._servers = self._servers, [server]
        try:
            check()
        except EngineError as error:
            # A server lost meanwhile says nothing about its weights.
            if server.failure:
                raise _ServerLost(server.failure) from error
            raise type(error)(f"{server.base_url}: {error}") from error
        finally:
            self._servers = servers

    def _spread(
        self,
        requests: Sequence[Any],
        ask: Callable[[_Server, Any], Result],
        done: Callable[[int], None],
    ) -> list[Result]:
        """Call `ask` for each request, on the available server with the fewest requests under
        way."""

        def answered(request: Any) -> Result:
            while True:
                server = self._acquire(request)
                try:
                    return ask(server, request)
                except _ServerLost as lost:
                    server.loaded, server.failure = None, str(lost)
                finally:
                    self._release(server)

        if not requests:
            return []
        executor = ThreadPoolExecutor(self._options.connections * len(self._servers))
        try:
            results = []
            for result in executor.map(answered, requests):
                results.append(result)
                done(1)
            return results
        finally:
            executor.shutdown(cancel_futures=True)

    def _acquire(self, request: Any) -> _Server:
        with self._condition:
            self._require_one()
            living = [server for server in self._servers if not server.failure]
            server = self._place(request)
            if server not in living or server.under_way >= self._options.connections:
                server = min(living, key=lambda one: one.under_way)
            server.under_way += 1
            return server

    def _place(self, request: Any) -> _Server | None:
        """Where the past of what is to be sampled is, as far as that is known."""
        if self._places is None or not isinstance(request, SampleRequest):
            return None
        return self._places.find(request.context_ids)

    def _remember(self, server: _Server, token_ids: Sequence[int]) -> None:
        with self._condition:
            if self._places is not None:
                self._places.remember(token_ids, server)

    def _release(self, server: _Server) -> None:
        with self._condition:
            server.under_way -= 1

    def _require_one(self) -> None:
        if all(server.failure for server in self._servers):
            failures = "; ".join(f"{s.base_url} ({s.failure})" for s in self._servers)
            log = f"\nThe end of its log:\n{self._own.log_end()}" if self._own else ""
            raise EngineError(
                f"no vLLM server answers: {failures}. Finished stages are kept: start the servers "
                f"and run again{log}"
            )


def _excerpt(response: httpx.Response) -> str:
    return repr(response.text[:_EXCERPT_CHARACTERS])
