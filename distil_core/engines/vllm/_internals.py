"""All that is used of vLLM beyond its documented API, each with the behaviour it rests on.

`tests/engines/test_vllm_internals.py` has a canary for each. pyproject.toml pins vLLM to the
version against which they were written. What takes a model runner is called inside of vLLM's
workers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def device_type() -> str:
    """For what kind of device the installed build is, as it finds when it is imported; empty where
    it finds none."""
    from vllm.platforms import current_platform

    return str(current_platform.device_type)


def replace_weights(model_runner: Any, tensors: Iterator[tuple[str, Tensor]]) -> None:
    """Load these tensors over the model's, by their names in a checkpoint. What is not among them
    keeps its values without a word: on CPU also an output layer that is tied to the embeddings."""
    model_runner.reload_weights(weights_iterator=tensors)


def model_limits(model_runner: Any) -> tuple[int, int, int, str]:
    """Vocabulary size, longest sequence, largest top K of log-probabilities, and dtype."""
    config = model_runner.model_config
    size = int(config.get_vocab_size())
    # -1 is vLLM's word for all of them.
    max_logprobs = size if config.max_logprobs == -1 else int(config.max_logprobs)
    return size, int(config.max_model_len), max_logprobs, str(config.dtype)


def leave_out_padding(model_runner: Any, num_known: int) -> None:
    """From now on ids from `num_known` on have no probability: their logits are minus infinity.

    Rests on the runner asking its model's `compute_logits` for the logits of samples and prompts
    alike, once a policy is loaded as before.
    """
    model = model_runner.model
    if not hasattr(model, "distil_compute_logits"):
        model.distil_compute_logits = model.compute_logits

    def without_padding(*arguments: Any, **named: Any) -> Any:
        logits = model.distil_compute_logits(*arguments, **named)
        # None on the ranks of a tensor-parallel engine that do not gather logits.
        if logits is not None:
            logits[..., num_known:] = -torch.inf
        return logits

    model.compute_logits = without_padding


def report_tails(model_runner: Any) -> None:
    """From now on a prompt position's own token gives way to the mass outside its top K.

    vLLM lists the top K after one entry for the token that stands there, which scoring has no
    use for. Its place is taken by an entry whose id is the vocabulary's size, no token, and
    whose value is the log of the remaining mass. Worked out from 1 minus the top K it would
    be lost to rounding.

    Rests on the older model runner asking its sampler for the entries of samples and prompts alike.
    """
    sampler = model_runner.sampler
    if not hasattr(sampler, "distil_original"):
        sampler.distil_original = sampler.gather_logprobs
        sampler.gather_logprobs = _with_tails(sampler.distil_original)


def _with_tails(gather: Callable[..., Any]) -> Callable[..., Any]:
    def gather_with_tails(logprobs: Tensor, num_logprobs: int, token_ids: Tensor) -> Any:
        gathered = gather(logprobs, num_logprobs, token_ids)
        # Sampling asks for no top K, so samples keep their own token's entry.
        if num_logprobs > 0:
            top_ids_nk = gathered.logprob_token_ids[:, 1:].long()
            outside_nv = logprobs.scatter(-1, top_ids_nk, -torch.inf)
            gathered.logprobs[:, 0] = outside_nv.double().logsumexp(-1)
            gathered.logprob_token_ids[:, 0] = logprobs.shape[-1]
        return gathered

    return gather_with_tails


def sampled_logprobs(response: Any) -> list[float]:
    """Of each token of a response that was asked for with `logprobs=0` and `flat_logprobs`."""
    return list(response.logprobs.logprobs)


def prompt_entries(output: Any, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ids and log-probabilities, [T - 1, 1 + K], of a prompt of T tokens that was asked for with
    `prompt_logprobs=top_k` and `flat_logprobs`: its first position has none, since nothing comes
    before it."""
    flat = output.prompt_logprobs
    shape = (len(output.prompt_token_ids) - 1, top_k + 1)
    return np.array(flat.token_ids).reshape(shape), np.array(flat.logprobs).reshape(shape)


def shut_down(llm: Any) -> None:
    """Free the model and its cache. Process groups are kept until the process ends."""
    llm.llm_engine.engine_core.shutdown()


@contextmanager
def torch_as_vllm_needs_it(num_threads: int) -> Iterator[None]:
    """Its kernels have no deterministic twins, which torch would refuse; and its CPU worker puts a
    function that only warns in place of `torch.set_num_threads`. Both are put back."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    set_num_threads = torch.set_num_threads
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(num_threads)


@contextmanager
def only_its_own_modules_examined() -> Iterator[None]:
    """Starting within this leaves what others have imported in this process alone.

    Where Triton is not there, vLLM puts other functions in place of its kernels, and looks for
    these in every module of the process with `hasattr`. That runs code of whatever lies there: a
    proxy that may not be touched yet, such as Flask's `current_app`, raises and ends the start.

    Rests on `_rebind_kernels` going over `sys.modules`; kernels are held in vLLM's modules alone.
    """
    dispatcher: Any = import_module("vllm.triton_utils.dispatcher")
    rebind = dispatcher._rebind_kernels

    def rebind_in_vllm(overrides: Any) -> None:
        own = {name: held for name, held in sys.modules.items() if name.split(".")[0] == "vllm"}
        dispatcher.sys = SimpleNamespace(modules=own)
        try:
            rebind(overrides)
        finally:
            dispatcher.sys = sys

    dispatcher._rebind_kernels = rebind_in_vllm
    try:
        yield
    finally:
        dispatcher._rebind_kernels = rebind
