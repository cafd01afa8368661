"""vLLM in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from distil_core.config.models import ComputeParams
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.engines.vllm import _internals
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
from distil_core.engines.vllm.launch import arguments as engine_arguments
from distil_core.engines.vllm.launch import prepare_process, require_vllm
from distil_core.engines.vllm.options import Options
from distil_core.errors import EngineError


class InProcessBackend:
    """Starting with `policy` takes seconds to minutes; loading further policies takes less than a
    second."""

    def __init__(self, options: Options, compute: ComputeParams, policy: Policy):
        require_vllm()
        prepare_process(options, compute)
        self._num_threads = compute.num_threads
        self._started_with: Policy | None = policy
        self._loaded: Policy | None = None
        with self._in_vllm("cannot start"):
            from vllm import LLM

            with _internals.only_its_own_modules_examined():
                self._llm: Any = LLM(
                    **engine_arguments(options, compute, policy.folder), disable_log_stats=True
                )
            self._llm.collective_rpc("distil_report_tails")
            self._llm.collective_rpc("distil_leave_out_padding", args=(str(policy.folder),))
            (description,) = self._llm.collective_rpc("distil_describe")
        self.limits = ModelLimits.parse(description)

    def ensure_loaded(self, policy: Policy, check: Callable[[], object]) -> None:
        """See `Backend`. The policy of the start is checked like any other."""
        if policy == self._loaded:
            return
        self._loaded = None
        if policy != self._started_with:
            with self._in_vllm(f"cannot load {policy.folder}"):
                arguments = (str(policy.folder), policy.identity)
                self._llm.collective_rpc("distil_load_policy", args=arguments)
                if not self._llm.reset_prefix_cache():
                    raise EngineError("vLLM kept its prefix cache, which is the former policy's")
        self._started_with = None
        check()
        self._loaded = policy

    def sample(
        self,
        requests: Sequence[SampleRequest],
        settings: SamplingSettings,
        end_token_ids: Sequence[int],
        done: Callable[[int], None],
    ) -> list[Sampled | Unanswered]:
        from vllm import SamplingParams

        prompts = [list(request.context_ids) for request in requests]
        params = [
            SamplingParams(
                **sampling_arguments(request, settings, end_token_ids), flat_logprobs=True
            )
            for request in requests
        ]
        results: list[Sampled | Unanswered] = []
        for output in self._generate(prompts, params):
            (response,) = output.outputs
            # vLLM ends a single request with 'abort' or 'error', and goes on with the others.
            if response.finish_reason in ("stop", "length"):
                logprobs = _internals.sampled_logprobs(response)
                results.append(Sampled(list(response.token_ids), logprobs))
            else:
                results.append(Unanswered(f"it ended with {response.finish_reason!r}"))
            done(1)
        return results

    def continuing(self) -> AbstractContextManager[None]:
        """See `Backend`: there is one cache."""
        return nullcontext()

    def score(
        self, sequences: Sequence[tuple[list[int], int]], top_k: int, done: Callable[[int], None]
    ) -> list[TopK]:
        from vllm import SamplingParams

        params = SamplingParams(**scoring_arguments(top_k), flat_logprobs=True)
        prompts = [token_ids for token_ids, _ in sequences]
        results = []
        for (_, start), output in zip(
            sequences, self._generate(prompts, [params] * len(prompts)), strict=True
        ):
            # Of the context only what predicts the response's first token is wanted.
            ids, logprobs = _internals.prompt_entries(output, top_k)
            scored = split_tails(ids[start - 1 :], logprobs[start - 1 :], self.limits)
            if scored is None:
                raise EngineError("vLLM's worker does not report tails: is its runner another one?")
            results.append(scored)
            done(1)
        return results

    def ended(self) -> bool:
        return self._llm is None

    def close(self) -> None:
        """Free the model and its cache. vLLM keeps its process groups until the process ends."""
        llm, self._llm = self._llm, None
        if llm is not None:
            _internals.shut_down(llm)

    def _generate(self, prompts: list[list[int]], params: list[Any]) -> Any:
        if not prompts:
            return []
        with self._in_vllm("cannot answer"):
            return self._llm.generate(
                [{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False
            )

    @contextmanager
    def _in_vllm(self, failure: str) -> Iterator[None]:
        """Raise what vLLM raises in the block as an `EngineError`; torch's global state, which
        vLLM changes, is restored."""
        with _internals.torch_as_vllm_needs_it(self._num_threads):
            try:
                yield
            except EngineError:
                raise
            except Exception as error:  # vLLM raises many unrelated types
                raise EngineError(
                    f"vLLM {failure} ({type(error).__name__}: {error}); `distil doctor` examines "
                    "its installation, VLLM_LOGGING_LEVEL=INFO shows its log"
                ) from error
