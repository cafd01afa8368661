"""Environment and arguments for starting vLLM, in this process or as a server."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distil_core.config.models import ComputeParams
from distil_core.engines.vllm.options import Options
from distil_core.engines.vllm.worker import EXTENSION
from distil_core.errors import EngineRefusedError

_CPU_BLOCK_TOKENS = 32
"""The least that vLLM's attention on a CPU takes. The bits are those of its default."""

_DECISIVE = ("VLLM_USE_V2_MODEL_RUNNER", "OMP_NUM_THREADS")


def environment(options: Options, compute: ComputeParams) -> dict[str, str]:
    """The environment variables that vLLM reads once, when it is imported."""
    variables = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CONFIGURE_LOGGING": "1",
        # The older model runner, as exact tails cannot be added to the newer one.
        "VLLM_USE_V2_MODEL_RUNNER": "0",
    }
    if compute.device == "cpu":
        variables |= {
            "VLLM_CPU_KVCACHE_SPACE": str(options.kv_cache_gb),
            # As many threads as torch: vLLM would otherwise use every core.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_CI_ENV": "1",
            "OMP_NUM_THREADS": str(compute.num_threads),
        }
    else:
        # Results that do not depend on the rest of the batch, where the GPU's kernels support it.
        variables["VLLM_BATCH_INVARIANT"] = "1"
    return variables


def arguments(options: Options, compute: ComputeParams, policy_dir: Path) -> dict[str, Any]:
    """Arguments for vLLM's engine, by their names in Python."""
    found: dict[str, Any] = {
        "model": str(policy_dir),
        # Token ids in and out: without a tokenizer nothing is decoded to text by mistake.
        "skip_tokenizer_init": True,
        # A checkpoint is data: none of its code is run, and no pickle is read.
        "trust_remote_code": False,
        "load_format": "safetensors",
        "dtype": compute.dtype,
        "seed": 0,
        "enforce_eager": options.enforce_eager,
        "max_logprobs": options.max_logprobs,
        # Log-probabilities of the distribution really sampled from, after temperature and top-p.
        "logprobs_mode": "processed_logprobs",
        # The checkpoint's own sampling defaults would change the distribution.
        "generation_config": "vllm",
        "max_num_seqs": options.max_num_sequences,
        "max_num_batched_tokens": options.max_batched_tokens,
        "worker_extension_cls": EXTENSION,
        # Its progress bars would break up our own.
        "use_tqdm_on_load": False,
    }
    if options.max_model_len is not None:
        found["max_model_len"] = options.max_model_len
    if compute.device == "cuda":
        found["gpu_memory_utilization"] = options.gpu_memory_fraction
    else:
        # A context processed in parts draws one random number too many for each part. vLLM corrects
        # that for a GPU's generator, and fails for a CPU's.
        found["enable_chunked_prefill"] = False
        # What several requests begin with is kept in whole blocks; the default of 128 tokens is
        # longer than many a turn.
        found["block_size"] = _CPU_BLOCK_TOKENS
    return found


def server_command(
    options: Options, compute: ComputeParams, policy_dir: Path, socket: Path
) -> list[str]:
    """The command line of a server with the same arguments. It listens on a socket in a private
    folder: any user of the machine may connect to a port, and vLLM's key guards none of the calls
    made here."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--uds", str(socket), "--disable-log-stats"]
    # The endpoint with token ids is one of those for larger deployments.
    command += ["--enable-scale-out"]
    for name, value in arguments(options, compute, policy_dir).items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            command.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            command += [flag, str(value)]
    return command


def require_vllm() -> None:
    """Raise `EngineRefusedError` where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise EngineRefusedError(
            "engine 'vllm' needs the package vllm, which is not installed: `make vllm` installs "
            "the CPU build, `make vllm-gpu` the one for CUDA; or use engine 'transformers'"
        )


def prepare_process(options: Options, compute: ComputeParams) -> None:
    """Set the environment variables for an engine in this process."""
    os.environ.update(_with_shell(environment(options, compute)))
    # Run the engine in this process, not in a child.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def server_environment(
    options: Options, compute: ComputeParams, private_dir: Path
) -> dict[str, str]:
    """All environment variables of a server. They allow loading other weights, which vLLM counts
    as a call for development. private_dir: for the sockets between its processes, which carry
    pickles."""
    variables = _with_shell(environment(options, compute))
    # Servers make no network requests, as checkpoints are local folders. This process may, as
    # problem sources may have to download.
    variables |= _with_shell({"HF_HUB_OFFLINE": "1"})
    private = {"VLLM_RPC_BASE_PATH": str(private_dir), "VLLM_SERVER_DEV_MODE": "1"}
    return {**os.environ, **variables, **private}


def _with_shell(variables: dict[str, str]) -> dict[str, str]:
    """The variables, where those of the shell take precedence except for those that decide
    results."""
    return {
        name: value if name in _DECISIVE else os.environ.get(name, value)
        for name, value in variables.items()
    }
