"""Canaries: what `distil_core/engines/vllm/_internals.py` rests on is so in the installed vLLM.

One process tries each with a small policy, since vLLM keeps what it once started (60 s).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]

_PROGRAM = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import torch
from distil_core.config.models import ComputeParams
from distil_core.engines.vllm import _internals
from distil_core.engines.vllm.launch import arguments, environment, prepare_process
from distil_core.engines.vllm.options import Options
from distil_core.engines.vllm.worker import LM_HEAD, checkpoint_tensors

first, second = map(Path, sys.argv[1:])
device = "cuda" if torch.cuda.is_available() else "cpu"
compute = ComputeParams(device=device, dtype="float32", num_threads=1)
options = Options(mode="in_process", max_num_sequences=4)
prepare_process(options, compute)
found = {"device": device}
set_num_threads = torch.set_num_threads
torch.use_deterministic_algorithms(True)
with _internals.torch_as_vllm_needs_it(1):
    found["deterministic_within"] = torch.are_deterministic_algorithms_enabled()
    from vllm import LLM, SamplingParams
    import vllm.envs
    known = vllm.envs.environment_variables
    found["unknown"] = [name for name in environment(options, compute)
                        if name.startswith("VLLM") and name not in known]
    everything = {"max_logprobs": -1, "disable_log_stats": True}
    class Untouchable:
        __dict__ = property(lambda self: 1 // 0)
    sys.modules["of_others"] = SimpleNamespace(proxy=Untouchable())
    with _internals.only_its_own_modules_examined():
        llm = LLM(**{**arguments(options, compute, first), **everything})
    from vllm.triton_utils import HAS_TRITON, dispatcher
    from vllm.v1.worker.block_table import ComputeSlotMappingKernel
    found["has_triton"] = HAS_TRITON
    kernel = ComputeSlotMappingKernel.kernel
    found["kernels_replaced"] = isinstance(kernel, dispatcher.KernelOverride)
    try:
        dispatcher._rebind_kernels([])
        found["examines_others"] = False
    except ZeroDivisionError:
        found["examines_others"] = True
    del sys.modules["of_others"]
    found["threads_replaced"] = torch.set_num_threads is not set_num_threads
found["device_type"] = _internals.device_type()
found["threads_restored"] = torch.set_num_threads is set_num_threads
found["deterministic_after"] = torch.are_deterministic_algorithms_enabled()
torch.use_deterministic_algorithms(False)

(runner,) = llm.collective_rpc(lambda worker: worker.model_runner)
found["limits"] = _internals.model_limits(runner)
PROMPT = [5, 9, 17, 4]

def entries(top_k):
    params = SamplingParams(temperature=1.0, seed=0, max_tokens=1, detokenize=False,
                            prompt_logprobs=top_k, flat_logprobs=True)
    (output,) = llm.generate([{"prompt_token_ids": PROMPT}], params, use_tqdm=False)
    ids, logprobs = _internals.prompt_entries(output, top_k)
    return ids.tolist(), logprobs.tolist()

def greedy():
    params = SamplingParams(temperature=0.0, max_tokens=3, detokenize=False, logprobs=0,
                            ignore_eos=True, flat_logprobs=True)
    (output,) = llm.generate([{"prompt_token_ids": PROMPT}], params, use_tqdm=False)
    (response,) = output.outputs
    return list(response.token_ids), _internals.sampled_logprobs(response)

found["own"] = entries(3)
found["all"] = entries(found["limits"][0])
found["sampled"] = greedy()
_internals.report_tails(runner)
found["tails"] = entries(3)
found["sampled_with_tails"] = greedy()

def replaced(folder, without):
    tensors = (pair for pair in checkpoint_tensors(folder) if pair[0] not in without)
    _internals.replace_weights(runner, tensors)
    found.setdefault("reset", []).append(llm.reset_prefix_cache())
    return entries(3)[1]

found["second"] = replaced(second, ())
replaced(first, ())
found["second_without_head"] = replaced(second, (LM_HEAD,))
found["first_again"] = replaced(first, ())
KNOWN = 50
_internals.leave_out_padding(runner, KNOWN)
found["known"] = entries(KNOWN)
found["sampled_known"] = greedy()
_internals.leave_out_padding(runner, found["limits"][0])
found["all_again"] = entries(3)[1]
_internals.shut_down(llm)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(loud_policy: Callable[[int], Path]) -> Any:
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed: `make vllm` installs its CPU build")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(loud_policy(7)), str(loud_policy(8))],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_variable_that_is_set_is_one_of_vllms(found: Any) -> None:
    assert found["unknown"] == []


def test_the_device_that_the_build_is_for(found: Any) -> None:
    assert found["device_type"] == found["device"]


def test_limits_of_the_model(found: Any, tokenizer: Any) -> None:
    size = len(tokenizer)
    assert found["limits"] == [size, 128, size, "torch.float32"]


def test_entries_of_a_prompt_begin_with_its_own_tokens(found: Any) -> None:
    ids, logprobs = found["own"]
    assert [row[0] for row in ids] == [9, 17, 4]
    assert all(row[1:] == sorted(row[1:], reverse=True) for row in logprobs)
    # The same token's, wherever it is listed.
    for row_ids, row in zip(*found["all"], strict=True):
        assert row[0] == pytest.approx(row[1 + row_ids[1:].index(row_ids[0])])


def test_tails_take_the_place_of_those(found: Any) -> None:
    size = found["limits"][0]
    ids, logprobs = found["tails"]
    assert [row[0] for row in ids] == [size] * 3
    assert [row[1:] for row in ids] == [row[1:] for row in found["own"][0]]
    for all_ids, all_logprobs, row_ids, row in zip(*found["all"], ids, logprobs, strict=True):
        by_token = dict(zip(all_ids, all_logprobs, strict=True))
        outside = _logsumexp(value for token, value in by_token.items() if token not in row_ids)
        assert row[0] == pytest.approx(outside, abs=1e-4)


def test_logits_that_are_left_out_have_no_probability(found: Any) -> None:
    for all_ids, all_logprobs, row_ids, row in zip(*found["all"], *found["known"], strict=True):
        expected = {
            token: value
            for token, value in zip(all_ids, all_logprobs, strict=True)
            if token < len(row_ids) - 1
        }
        mass = _logsumexp(expected.values())
        assert set(row_ids[1:]) == set(expected)
        for token, value in zip(row_ids[1:], row[1:], strict=True):
            assert value == pytest.approx(expected[token] - mass, abs=1e-4)
        assert row[0] == float("-inf")
    ids, logprobs = found["sampled_known"]
    assert max(ids) < len(found["known"][0][0]) - 1
    assert all(value > float("-inf") for value in logprobs)
    assert found["all_again"] == found["tails"][1]


def test_samples_keep_their_own_tokens(found: Any) -> None:
    assert found["sampled"] == found["sampled_with_tails"]
    ids, logprobs = found["sampled"]
    assert len(ids) == len(logprobs) == 3
    assert all(value <= 0 for value in logprobs)


def test_weights_are_replaced_whole_where_the_tied_head_comes_with_them(found: Any) -> None:
    assert found["reset"] == [True] * 4
    assert found["second"] != found["tails"][1]
    assert found["first_again"] == found["tails"][1]


def test_a_tied_head_that_does_not_come_is_kept_on_cpu(found: Any) -> None:
    if found["device"] == "cuda":
        pytest.skip("only the CPU build keeps it")
    assert found["second_without_head"] != found["second"]


def test_torch_is_put_back(found: Any) -> None:
    assert not found["deterministic_within"]
    assert found["deterministic_after"]
    # The CPU build replaces it.
    assert found["threads_replaced"] or found["device"] == "cuda"
    assert found["threads_restored"]


def test_what_others_imported_is_left_alone_and_kernels_are_still_replaced(found: Any) -> None:
    assert found["examines_others"], "vLLM spares them by itself: delete what does it here"
    assert found["kernels_replaced"] or found["has_triton"]


def _logsumexp(values: Any) -> float:
    import numpy as np

    return float(np.logaddexp.reduce(np.fromiter(values, np.float64)))
