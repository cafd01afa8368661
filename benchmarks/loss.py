"""The loss from hidden states on, beside what users would pick instead: seconds and memory.

`python -m benchmarks.loss` measures forward and backward on the CPU, each contender in processes
of its own, one at a time; TRL is there after `make peers`. `--device cuda` adds Liger's fused
linear cross-entropy and takes its sizes from `CUDA_SIZES`; there, peers are those of this
environment (`pip install trl liger-kernel`). A peer that is not installed is left out, and said
to be, unless it was asked for by name.

All compute a cross-entropy against the expert's top-K and tail from the same hidden states and
head, and the gradients of both. DistIL and the plain loss add the term of the sampled token's
log-probability; TRL's and Liger's losses have none, and Liger's knows no distribution, only one
label a token.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import (
    PEERS_PYTHON,
    Run,
    machine,
    markdown_table,
    minimum_of,
    require_device,
    run_in_turn,
)

PLAIN = "materialised"
# TRL's asynchronous distillation trainer: the one of its losses whose expert is top-K and a tail.
NAMES = {
    "distil": "DistIL",
    PLAIN: "plain, logits whole",
    "trl": "TRL, chunked top-K",
    "liger": "Liger, one label",
}
PACKAGES = {"trl": "trl", "liger": "liger-kernel"}
CONTENDERS = {"cpu": ("distil", PLAIN, "trl"), "cuda": ("distil", PLAIN, "trl", "liger")}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# The plain loss holds several tensors of tokens x vocabulary at a time.
PLAIN_COPIES = 5


@dataclass(frozen=True)
class Sizes:
    """What all contenders compute on."""

    tokens: int
    hidden: int
    vocabulary: int
    top_k: int
    dtype: str


CPU_SIZES = Sizes(4096, 1024, 151_936, 20, "float32")
CUDA_SIZES = Sizes(8192, 4096, 128_256, 20, "bfloat16")


@dataclass(frozen=True)
class Work:
    """hidden_nd and weight_vd want gradients. The expert's K ids are distinct; its masses are
    natural logarithms of [N, K] ids and [N, 1] tail."""

    hidden_nd: Tensor
    weight_vd: Tensor
    ids_nk: Tensor
    expert_nk: Tensor
    tail_n1: Tensor
    sampled_n: Tensor
    advantages_n: Tensor

    @classmethod
    def of(cls, sizes: Sizes, device: str) -> "Work":
        random = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random).to(device, DTYPES[sizes.dtype])

        # One window of ids for each token: distinct without a permutation of the vocabulary.
        starts_n1 = torch.randint(0, sizes.vocabulary, (sizes.tokens, 1), generator=random)
        ids_nk = (starts_n1 + 7 * torch.arange(sizes.top_k)) % sizes.vocabulary
        scores_nj = torch.randn(sizes.tokens, sizes.top_k + 1, generator=random)
        expert_nj = torch.log_softmax(scores_nj, -1).to(device)
        sampled_n = torch.randint(0, sizes.vocabulary, (sizes.tokens,), generator=random)
        return cls(
            normal(sizes.tokens, sizes.hidden).requires_grad_(),
            (normal(sizes.vocabulary, sizes.hidden) / sizes.hidden**0.5).requires_grad_(),
            ids_nk.to(device),
            expert_nj[:, :-1],
            expert_nj[:, -1:],
            sampled_n.to(device),
            torch.randn(sizes.tokens, generator=random).to(device),
        )

    def loss(self, buckets_nj: Tensor, sampled_n: Tensor) -> Tensor:
        """mean(H + A log pi(y)), both terms of the full gradient."""
        expert_nj = torch.cat([self.expert_nk, self.tail_n1], -1)
        cross_entropy_n = -(expert_nj.exp() * buckets_nj).sum(-1)
        return (cross_entropy_n + self.advantages_n * sampled_n).mean()


def distil(work: Work) -> Tensor:
    """This repository's, as training uses it."""
    from distil_core.training.head_logprobs import head_logprobs

    return work.loss(*head_logprobs(work.hidden_nd, work.weight_vd, work.ids_nk, work.sampled_n))


def materialised(work: Work) -> Tensor:
    """What one writes first; float32 from the logits on."""
    logprobs_nv = torch.log_softmax((work.hidden_nd @ work.weight_vd.t()).float(), dim=-1)
    tail_n1 = logprobs_nv.scatter(-1, work.ids_nk, -torch.inf).logsumexp(-1, keepdim=True)
    buckets_nj = torch.cat([logprobs_nv.gather(-1, work.ids_nk), tail_n1], dim=-1)
    return work.loss(buckets_nj, logprobs_nv.gather(-1, work.sampled_n[:, None]).squeeze(-1))


def trl(work: Work) -> Tensor:
    """Forward KL (beta 0) with a tail bucket, in chunks of the trainer's own size."""
    from trl.experimental.async_distillation import async_distillation_trainer as trainer

    loss, *_ = trainer._chunked_jsd_loss(
        work.hidden_nd,
        work.weight_vd,
        None,
        1.0,
        None,
        work.ids_nk,
        work.expert_nk,
        torch.ones_like(work.ids_nk, dtype=torch.bool),
        0.0,
        1.0,
        True,
        None,
        0,
        trainer._CHUNKED_LM_HEAD_CHUNK_SIZE,
    )
    return loss / len(work.hidden_nd)


def liger(work: Work) -> Tensor:
    """Cross-entropy of the sampled token."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss: Tensor = LigerFusedLinearCrossEntropyLoss()(
        work.weight_vd, work.hidden_nd, work.sampled_n
    )
    return loss


LOSSES: Mapping[str, Callable[[Work], Tensor]] = {
    "distil": distil,
    PLAIN: materialised,
    "trl": trl,
    "liger": liger,
}


def measure(contender: str, sizes: Sizes, device: str, steps: int) -> dict[str, float]:
    """Seconds of the fastest step, the most memory beyond the inputs, and the loss."""
    torch.use_deterministic_algorithms(device == "cpu")
    # Setting fresh memory to NaN is for finding bugs, and costs each contender passes.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    work = Work.of(sizes, device)
    seconds, peaks, extra = [], [], []
    for _ in range(steps):
        work.hidden_nd.grad = work.weight_vd.grad = None
        before = _start_of_peak(device)
        start = time.perf_counter()
        loss = LOSSES[contender](work)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        peaks.append(_peak(device))
        extra.append(peaks[-1] - before)
    return {
        "seconds": min(seconds),
        "extra_mb": max(extra) / 2**20,
        "peak_mb": max(peaks) / 2**20,
        "loss": loss.item(),
    }


def _start_of_peak(device: str) -> int:
    """Memory in use now, in bytes, from which on the peak is kept."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status_bytes("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 2**10
    sys.exit(f"/proc/self/status has no {name}: memory is measured on Linux only")


def main() -> None:
    """Print the table, or one contender's figures."""
    arguments = _arguments()
    sizes = _sizes(arguments)
    require_device(arguments.device)
    if arguments.child:
        torch.set_num_threads(arguments.threads[0])
        print(json.dumps(measure(arguments.child, sizes, arguments.device, arguments.steps)))
        return
    contenders, left_out = present(arguments.contenders, arguments.device)
    if arguments.device == "cpu" and PLAIN in contenders:
        _require_memory(sizes)
    rows = []
    for threads in arguments.threads:
        commands = {
            name: _command(name, sizes, arguments.device, threads, arguments.steps)
            for name in contenders
        }
        runs = run_in_turn(commands, arguments.repeats, threads)
        rows += [_row(name, found, runs, threads) for name, found in runs.items()]
    device = machine() if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(
        f"{sizes.tokens:,} tokens x hidden {sizes.hidden:,} x vocabulary {sizes.vocabulary:,}, "
        f"K {sizes.top_k}, {sizes.dtype}; {device}; forward and backward, least of "
        f"{arguments.repeats * arguments.steps} steps in {arguments.repeats} processes.\n"
    )
    header = ["", "threads", "seconds", "ratio", "extra MB", "ratio", "loss"]
    print(markdown_table(header, rows))
    if left_out:
        print("\n" + "\n".join(left_out))


def present(asked_for: Sequence[str] | None, device: str) -> tuple[list[str], list[str]]:
    """The contenders that can run here, and a line on each that is left out: what is missing and
    how to get it. Exits with that line where the contender was asked for by name."""
    absent = {
        name: reason
        for name in asked_for or CONTENDERS[device]
        if (reason := _what_is_missing(name, device))
    }
    lines = [f"{NAMES[name]} is left out: {reason}." for name, reason in absent.items()]
    if asked_for and absent:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        sys.exit(f"--contenders asks for what is not here: {reasons}")
    return [name for name in asked_for or CONTENDERS[device] if name not in absent], lines


def _what_is_missing(name: str, device: str) -> str | None:
    package = PACKAGES.get(name)
    if package is None:
        return None
    if name == "trl" and device == "cpu":
        return None if PEERS_PYTHON.exists() else f"no {PEERS_PYTHON}, `make peers` installs it"
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        return f"no {package} in {sys.prefix}, `pip install {package}` there installs it"
    return None


def _command(name: str, sizes: Sizes, device: str, threads: int, steps: int) -> list[str]:
    python = str(PEERS_PYTHON) if name == "trl" and device == "cpu" else sys.executable
    options = {**asdict(sizes), "device": device, "threads": threads, "steps": steps}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    return [python, "-m", "benchmarks.loss", f"--child={name}", *flags]


def _row(
    name: str, found: Sequence[Run], runs: Mapping[str, Sequence[Run]], threads: int
) -> list[str]:
    def figure(key: str, of: Sequence[Run]) -> float:
        return minimum_of(of, lambda run: float(run.figures[key]))

    def ratio(key: str) -> str:
        return f"{figure(key, found) / figure(key, runs[PLAIN]):.2f}" if PLAIN in runs else ""

    return [
        NAMES[name],
        str(threads),
        f"{figure('seconds', found):.2f}",
        ratio("seconds"),
        f"{figure('extra_mb', found):,.0f}",
        ratio("extra_mb"),
        f"{found[0].figures['loss']:.6f}",
    ]


def _require_memory(sizes: Sizes) -> None:
    """Rather no figure than a machine that swaps or kills."""
    needed = PLAIN_COPIES * 4 * sizes.tokens * sizes.vocabulary
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 2**10
    if needed > available:
        sys.exit(
            f"the plain loss needs about {needed / 2**30:.0f} GiB and {available / 2**30:.0f} are "
            "free: take fewer --tokens, or leave it out (--contenders distil trl)"
        )


def _sizes(arguments: argparse.Namespace) -> Sizes:
    default = CUDA_SIZES if arguments.device == "cuda" else CPU_SIZES
    chosen = {
        field.name: value
        for field in fields(Sizes)
        if (value := getattr(arguments, field.name)) is not None
    }
    return Sizes(**{**asdict(default), **chosen})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loss", description=__doc__)
    parser.add_argument("--device", choices=sorted(CONTENDERS), default="cpu")
    for name in ("tokens", "hidden", "vocabulary", "top-k"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--dtype", choices=sorted(DTYPES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=2, help="processes of each contender")
    parser.add_argument("--steps", type=int, default=2, help="steps in each process")
    parser.add_argument("--contenders", nargs="+", choices=sorted(NAMES))
    parser.add_argument("--child", choices=sorted(NAMES), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
