"""How fast do the engines sample and score, and do they agree? Both, beside plain `generate`.

`python -m benchmarks.engines` measures on the CPU in float32: the default campaign's base policy
with the prompts of its iteration 1 and the policy that iteration 6 starts from with as many
responses as an evaluation draws, where `make run` has made them, and larger models.
`--device cuda` does it on a GPU in bfloat16, with still larger models, after running the engines'
tests there and before a small campaign (`--parts` chooses). Models are made from scratch, so
nothing is downloaded; each engine and size has a process of its own, whose peak memory is its
own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.engines_campaign import run_campaign
from benchmarks.measure import require_device
from distil_core.campaign.load import load_iteration_params
from distil_core.config.models import ArchitectureParams, Component, ComputeParams
from distil_core.engines import build_engine
from distil_core.engines.base import (
    Engine,
    MonitoredEngine,
    SampleRequest,
    SamplingSettings,
    ScoreRequest,
)
from distil_core.policy.batching import collate
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.new_model import new_model
from distil_core.policy.tokenizer import character_tokenizer
from distil_core.progress import no_progress
from distil_core.seeds import generator
from distil_core.tables.schemas import ROLLOUTS
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace

ENGINES = ("generate", "transformers", "vllm")
WITHOUT_VLLM = ENGINES[:2]
"""The campaign's policies' heads are too small for vLLM on a CPU."""
CAMPAIGN = {"default": 1, "trained": 6}
"""Not sizes: the policies of this workspace from which these iterations start."""
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
BATCH_ROWS = 2048
GENERATE_BATCH_ROWS = (512, 2048)
"""Of these `generate` gets the faster one."""
MEASURED_TIMES = 3


@dataclass(frozen=True)
class Work:
    """The same prompts for all, each `num_samples` times in succession; seeds are each rollout's
    own."""

    requests: list[SampleRequest]
    num_samples: int
    sampling: SamplingSettings

    @classmethod
    def of(cls, device: str, size: str) -> "Work":
        """Prompts of random tokens, or those of one of the campaign's iterations."""
        if size in CAMPAIGN:
            iteration = CAMPAIGN[size]
            params = load_iteration_params(Workspace(Path.cwd()), iteration)
            rows = read_rows(Workspace(Path.cwd()).rollouts_file(iteration), ROLLOUTS)
            num_samples, num_tokens = params.sample.num_rollouts, params.sample.max_new_tokens
            if size == "trained":
                num_samples = params.evaluate.num_samples
            prompts = [list(row.context_ids) for row in rows[:: params.sample.num_rollouts]]
            contexts = [prompt for prompt in prompts for _ in range(num_samples)]
        else:
            random = generator(0, "benchmark", "engines")
            prompts = random.integers(3, 99, (NUM_PROMPTS[device], CONTEXT_TOKENS)).tolist()
            contexts = [prompt for prompt in prompts for _ in range(SAMPLES_PER_PROMPT)]
            num_samples, num_tokens = SAMPLES_PER_PROMPT, NEW_TOKENS
        return cls(
            [SampleRequest(context, 1000 + i) for i, context in enumerate(contexts)],
            num_samples,
            SamplingSettings(num_tokens, temperature=1.0, top_p=1.0),
        )


def main() -> None:
    """Print a line for each engine and size, the fastest `generate` being 1."""
    arguments = _arguments()
    require_device(arguments.device)
    compute = ComputeParams(
        device=arguments.device, dtype=DTYPES[arguments.device], num_threads=arguments.threads
    )
    if arguments.child:
        engine, size, policy_dir, answer = arguments.child
        _child(engine, Path(policy_dir), Path(answer), compute, Work.of(compute.device, size))
        return
    if "tests" in arguments.parts:
        tests = ["tests/engines", "tests/files/test_doctor_vllm.py", "-q"]
        if subprocess.run([sys.executable, "-m", "pytest", *tests], check=False).returncode:
            sys.exit("the engines' tests failed; no speed of theirs means anything")
    if "speed" in arguments.parts:
        _print_speeds(compute, arguments.sizes or _sizes(compute.device))
    if "campaign" in arguments.parts:
        run_campaign(compute)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--sizes", nargs="+", help="some of the models' names only")
    parser.add_argument("--parts", nargs="+", choices=("tests", "speed", "campaign"))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    everything = ["tests", "speed", "campaign"]
    arguments.parts = arguments.parts or (everything if arguments.device == "cuda" else ["speed"])
    return arguments


def _sizes(device: str) -> list[str]:
    sizes = list(LAYERS_AND_WIDTHS[device])
    if device == "cuda":
        return sizes
    workspace = Workspace(Path.cwd())
    if all(workspace.rollouts_file(iteration).exists() for iteration in CAMPAIGN.values()):
        return [*CAMPAIGN, *sizes]
    print("the campaign's policies are left out: `make run` makes them and their prompts")
    return sizes


def _print_speeds(compute: ComputeParams, sizes: list[str]) -> None:
    print(
        f"{NUM_PROMPTS[compute.device]} prompts of {CONTEXT_TOKENS} tokens, {SAMPLES_PER_PROMPT} "
        f"responses of at most {NEW_TOKENS} each ({', '.join(CAMPAIGN)}: as in the campaign); "
        f"{compute.device}, {compute.dtype}, {compute.num_threads} threads; top {TOP_K} "
        f"and the tail; least of {MEASURED_TIMES} times"
    )
    print(
        f"{'model':9}{'engine':14}{'sampled/s':>11}{'ratio':>8}{'scored/s':>11}"
        f"{'peak MB':>9}{'batch-exact':>13}{'logprob error':>15}"
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            if size in CAMPAIGN:
                policy_dir = Workspace(Path.cwd()).parent_dir(CAMPAIGN[size])
            else:
                policy_dir = Path(folder) / "policy"
                _make_policy(compute.device, size, policy_dir)
            parameters = load_model(policy_dir, compute).num_parameters()
            baseline = None
            for engine in WITHOUT_VLLM if size in CAMPAIGN else ENGINES:
                found = _measured(engine, size, policy_dir, compute)
                baseline = baseline or found["sampled_per_s"]
                ratio = f"{found['sampled_per_s'] / baseline:.2f}"
                scored = f"{found['scored_per_s']:.0f}" if "scored_per_s" in found else "-"
                exact = f"{found['batch_exact']:.3f}" if "batch_exact" in found else "-"
                error = f"{found['error']:.1e}" if "error" in found else "-"
                print(
                    f"{size:9}{engine:14}{found['sampled_per_s']:>11.0f}{ratio:>8}{scored:>11}"
                    f"{found['peak_mb']:>9.0f}{exact:>13}{error:>15}",
                    flush=True,
                )
            print(f"         ({parameters:,} parameters)")


def _make_policy(device: str, size: str, policy_dir: Path) -> None:
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


def _measured(engine: str, size: str, policy_dir: Path, compute: ComputeParams) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.engines", "--device", compute.device]
    command += ["--threads", str(compute.num_threads), "--child", engine, size, str(policy_dir)]
    with tempfile.NamedTemporaryFile() as answer:
        done = subprocess.run([*command, answer.name], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{engine} failed:\n{done.stderr[-3000:]}")
        found: dict[str, float] = json.loads(Path(answer.name).read_text(encoding="utf-8"))
    return found


def _child(engine: str, policy_dir: Path, answer: Path, compute: ComputeParams, work: Work) -> None:
    torch.set_num_threads(compute.num_threads)
    if engine == "generate":
        found = _measure_generate(policy_dir, compute, work)
    else:
        options: dict[str, Any] = {"batch_size": BATCH_ROWS}
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
    engine.sample(work.requests[:8], work.sampling, no_progress)
    # Re-scoring by transformers is part of `sample`, but not of sampling.
    finished_at = 0.0

    def note(done: int, total: int) -> None:
        nonlocal finished_at
        if done == total:
            finished_at = time.perf_counter()

    times = []
    for _ in range(MEASURED_TIMES):
        started = time.perf_counter()
        responses = engine.sample(work.requests, work.sampling, note)
        times.append(finished_at - started)
    num_tokens = sum(len(response.token_ids) for response in responses)
    found = {"sampled_per_s": num_tokens / min(times)}
    scored = [
        ScoreRequest(request.context_ids, response.token_ids)
        for request, response in zip(work.requests, responses, strict=True)
    ]
    seconds = [
        _seconds(lambda: engine.score(scored, TOP_K, 1.0, no_progress))
        for _ in range(MEASURED_TIMES)
    ]
    found["scored_per_s"] = num_tokens / min(seconds)
    # Again in another order and in batches of another size: the share of equal responses.
    order = generator(1, "benchmark", "order").permutation(len(work.requests)).tolist()
    same = 0
    for start in range(0, len(order), 24):
        part = order[start : start + 24]
        again = engine.sample([work.requests[i] for i in part], work.sampling, no_progress)
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
    prompts = [request.context_ids for request in work.requests[:: work.num_samples]]
    end = model.config.eos_token_id

    def generate(prompts: list[Sequence[int]]) -> int:
        """Number of response tokens: with the end, without the padding after it."""
        batch = collate(prompts, [[]] * len(prompts), str(model.device))
        found = model.generate(
            batch.input_ids_bs,
            attention_mask=batch.attention_mask_bs,
            do_sample=True,
            top_k=0,
            max_new_tokens=work.sampling.max_new_tokens,
            num_return_sequences=work.num_samples,
            pad_token_id=end,
        )
        ended_bt = (found[:, batch.input_ids_bs.shape[1] :] == end).int()
        return int((ended_bt.cumsum(1) - ended_bt == 0).sum())

    torch.manual_seed(0)
    generate(prompts[:1])
    speeds = []
    batches = {min(rows, len(work.requests)) // work.num_samples for rows in GENERATE_BATCH_ROWS}
    for num_prompts in batches:
        for _ in range(MEASURED_TIMES):
            started = time.perf_counter()
            num_tokens = sum(
                generate(prompts[start : start + num_prompts])
                for start in range(0, len(prompts), num_prompts)
            )
            speeds.append(num_tokens / (time.perf_counter() - started))
    return {"sampled_per_s": max(speeds)}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
