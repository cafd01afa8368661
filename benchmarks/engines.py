"""How fast do the engines sample and score, and do they agree? Both, beside plain `generate`.

`python -m benchmarks.engines` measures on the CPU in float32. `--device cuda` does it on a GPU in
bfloat16, with larger models, after running the engines' tests there and before a small campaign
(`--parts` chooses). Models are made from scratch, so nothing is downloaded; each engine and size
has a process of its own, whose peak memory is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.engines_campaign import run_campaign
from distil_core.config.models import ArchitectureParams, Component, ComputeParams
from distil_core.engines import build_engine
from distil_core.engines.base import (
    Engine,
    MonitoredEngine,
    SampleRequest,
    SamplingSettings,
    ScoreRequest,
)
from distil_core.policy.from_scratch import new_model
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.tokenizer import character_tokenizer
from distil_core.progress import no_progress
from distil_core.seeds import generator

ENGINES = ("generate", "transformers", "vllm")
LAYERS_AND_WIDTHS = {
    "cpu": {"0.2M": (3, 64), "3M": (4, 256), "25M": (8, 512)},
    "cuda": {"25M": (8, 512), "200M": (16, 1024), "1.2B": (24, 2048)},
}
DTYPES: dict[str, Literal["float32", "bfloat16"]] = {"cpu": "float32", "cuda": "bfloat16"}
CONTEXT_TOKENS = 64
NEW_TOKENS = 64
SAMPLES_PER_PROMPT = 8
NUM_PROMPTS = {"cpu": 16, "cuda": 128}
TOP_K = 16
SAMPLING = SamplingSettings(NEW_TOKENS, temperature=1.0, top_p=1.0)


@dataclass(frozen=True)
class Work:
    """The same prompts for all; seeds are each rollout's own."""

    requests: list[SampleRequest]

    @classmethod
    def of(cls, device: str) -> "Work":
        """`SAMPLES_PER_PROMPT` rollouts of each prompt."""
        random = generator(0, "benchmark", "engines")
        prompts = random.integers(3, 99, (NUM_PROMPTS[device], CONTEXT_TOKENS)).tolist()
        repeated = [prompt for prompt in prompts for _ in range(SAMPLES_PER_PROMPT)]
        return cls([SampleRequest(prompt, 1000 + i) for i, prompt in enumerate(repeated)])


def main() -> None:
    """Print a line for each engine and size, the fastest `generate` being 1."""
    arguments = _arguments()
    compute = ComputeParams(
        device=arguments.device, dtype=DTYPES[arguments.device], num_threads=arguments.threads
    )
    if arguments.child:
        engine, policy_dir, answer = arguments.child
        _child(engine, Path(policy_dir), Path(answer), compute)
        return
    if "tests" in arguments.parts:
        tests = ["tests/engines", "tests/files/test_doctor_vllm.py", "-q"]
        if subprocess.run([sys.executable, "-m", "pytest", *tests], check=False).returncode:
            sys.exit("the engines' tests failed; no speed of theirs means anything")
    if "speed" in arguments.parts:
        _print_speeds(compute, arguments.sizes or list(LAYERS_AND_WIDTHS[compute.device]))
    if "campaign" in arguments.parts:
        run_campaign(compute)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--sizes", nargs="+", help="some of the models' names only")
    parser.add_argument("--parts", nargs="+", choices=("tests", "speed", "campaign"))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    everything = ["tests", "speed", "campaign"]
    arguments.parts = arguments.parts or (everything if arguments.device == "cuda" else ["speed"])
    return arguments


def _print_speeds(compute: ComputeParams, sizes: list[str]) -> None:
    print(
        f"{NUM_PROMPTS[compute.device]} prompts of {CONTEXT_TOKENS} tokens, {SAMPLES_PER_PROMPT} "
        f"responses of at most {NEW_TOKENS} each; {compute.device}, {compute.dtype}, "
        f"{compute.num_threads} threads; scoring: top {TOP_K} and the tail"
    )
    print(
        f"{'model':7}{'engine':14}{'sampled/s':>11}{'ratio':>8}{'scored/s':>11}"
        f"{'peak MB':>9}{'batch-exact':>13}{'logprob error':>15}"
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            policy_dir = Path(folder) / "policy"
            parameters = _make_policy(compute.device, size, policy_dir)
            baseline = None
            for engine in ENGINES:
                found = _measured(engine, policy_dir, compute)
                baseline = baseline or found["sampled_per_s"]
                ratio = f"{found['sampled_per_s'] / baseline:.2f}"
                scored = f"{found['scored_per_s']:.0f}" if "scored_per_s" in found else "-"
                exact = f"{found['batch_exact']:.3f}" if "batch_exact" in found else "-"
                error = f"{found['error']:.1e}" if "error" in found else "-"
                print(
                    f"{size:7}{engine:14}{found['sampled_per_s']:>11.0f}{ratio:>8}{scored:>11}"
                    f"{found['peak_mb']:>9.0f}{exact:>13}{error:>15}",
                    flush=True,
                )
            print(f"       ({parameters:,} parameters)")


def _make_policy(device: str, size: str, policy_dir: Path) -> int:
    num_layers, width = LAYERS_AND_WIDTHS[device][size]
    architecture = ArchitectureParams(
        hidden_size=width,
        num_layers=num_layers,
        num_heads=max(2, width // 64),
        intermediate_size=3 * width,
        max_positions=CONTEXT_TOKENS + NEW_TOKENS + 1,
    )
    tokenizer = character_tokenizer("0123456789+-=")
    model = new_model(architecture, tokenizer, seed=1)
    save_policy(model, tokenizer, policy_dir)
    return sum(parameter.numel() for parameter in model.parameters())


def _measured(engine: str, policy_dir: Path, compute: ComputeParams) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.engines", "--device", compute.device]
    command += ["--threads", str(compute.num_threads), "--child", engine, str(policy_dir)]
    with tempfile.NamedTemporaryFile() as answer:
        done = subprocess.run([*command, answer.name], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{engine} failed:\n{done.stderr[-3000:]}")
        found: dict[str, float] = json.loads(Path(answer.name).read_text(encoding="utf-8"))
    return found


def _child(engine: str, policy_dir: Path, answer: Path, compute: ComputeParams) -> None:
    torch.set_num_threads(compute.num_threads)
    work = Work.of(compute.device)
    if engine == "generate":
        found = _measure_generate(policy_dir, compute, work)
    else:
        options: dict[str, Any] = {"batch_size": len(work.requests)}
        if engine == "vllm":
            options = {
                "mode": "in_process",
                "max_num_sequences": min(len(work.requests), 256),
                "enforce_eager": compute.device == "cpu",
                "drift_rows": 64,
                # Measured here, not judged.
                "canary_limit": 1.0,
                "drift_limit": 1.0,
            }
        built = build_engine(Component(name=engine, options=options), policy_dir, compute)
        found = _measure_engine(built, work)
    if compute.device == "cuda":
        found["peak_mb"] = torch.cuda.max_memory_reserved() / 2**20
    else:
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    answer.write_text(json.dumps(found), encoding="utf-8")


def _measure_engine(engine: Engine, work: Work) -> dict[str, float]:
    engine.sample(work.requests[:8], SAMPLING, no_progress)
    # Re-scoring by transformers is part of `sample`, but not of sampling.
    finished_at = 0.0

    def note(done: int, total: int) -> None:
        nonlocal finished_at
        if done == total:
            finished_at = time.perf_counter()

    started = time.perf_counter()
    responses = engine.sample(work.requests, SAMPLING, note)
    num_tokens = sum(len(response.token_ids) for response in responses)
    found = {"sampled_per_s": num_tokens / (finished_at - started)}
    scored = [
        ScoreRequest(request.context_ids, response.token_ids)
        for request, response in zip(work.requests, responses, strict=True)
    ]
    seconds = _seconds(lambda: engine.score(scored, TOP_K, 1.0, no_progress))
    found["scored_per_s"] = num_tokens / seconds
    # Again in another order and in batches of another size: the share of equal responses.
    order = generator(1, "benchmark", "order").permutation(len(work.requests)).tolist()
    same = 0
    for start in range(0, len(order), 24):
        part = order[start : start + 24]
        again = engine.sample([work.requests[i] for i in part], SAMPLING, no_progress)
        same += sum(
            one.token_ids == responses[i].token_ids for i, one in zip(part, again, strict=True)
        )
    found["batch_exact"] = same / len(order)
    if isinstance(engine, MonitoredEngine):
        found["error"] = engine.drift()["engine_logprob_error_max"]
    return found


@torch.inference_mode()
def _measure_generate(policy_dir: Path, compute: ComputeParams, work: Work) -> dict[str, float]:
    model: Any = load_model(policy_dir, compute)
    prompts = [request.context_ids for request in work.requests[::SAMPLES_PER_PROMPT]]
    prompt_bs = torch.tensor(prompts, device=model.device)
    end = model.config.eos_token_id

    def generate(prompt_bs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model.generate(
            prompt_bs,
            attention_mask=torch.ones_like(prompt_bs),
            do_sample=True,
            top_k=0,
            max_new_tokens=NEW_TOKENS,
            num_return_sequences=SAMPLES_PER_PROMPT,
            pad_token_id=end,
        )
        return found[:, CONTEXT_TOKENS:]

    torch.manual_seed(0)
    generate(prompt_bs[:1])
    started = time.perf_counter()
    response_bt = generate(prompt_bs)
    # The end token of a response that ended counts, the padding after it does not.
    ended_bt = (response_bt == end).int()
    num_tokens = int((ended_bt.cumsum(1) - ended_bt == 0).sum())
    return {"sampled_per_s": num_tokens / (time.perf_counter() - started)}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
