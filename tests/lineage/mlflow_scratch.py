"""Scratch campaigns for tests of the MLflow record: files, settings and a dvc.lock that agree.

The stages never ran. Digests are those DVC would give the files, so that all checks apply.
"""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from distil_core.lineage.dvc.digest import content_md5
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
START_S = 1_780_000_000


def make_campaign(root: Path, num_iterations: int = 3) -> Workspace:
    """A git workspace whose iterations 0 .. num_iterations are all finished."""
    root.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(root)
    (root / ".gitignore").write_text("/data/\n/.distil/\n/mlflow.db*\n/mlruns/\n")
    for iteration in range(num_iterations + 1):
        _freeze(workspace, iteration)
        _write_files(workspace, iteration)
    lock_all(workspace, range(num_iterations + 1))
    write_listing(workspace, num_iterations)
    shutil.copy(PROJECT / "dvc.yaml", root)
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=test", "-c", "user.email=t@example.org", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", "-C", root, *arguments], check=True)
    return workspace


def write_listing(workspace: Workspace, num_iterations: int) -> None:
    """The list of a campaign's iterations, as far as a record needs it."""
    keys = [f"{number:03d}" for number in range(num_iterations + 1)]
    listing: dict[str, dict[str, Any]] = {
        "iterations": {key: {} for key in keys[1:]},
        "evaluations": {key: {} for key in keys},
        "curves": {"loss": {}, "cross_entropy": {}, "pass_at_k": {}},
    }
    workspace.iterations_file.write_text(yaml.safe_dump(listing, sort_keys=False))


def lock_all(workspace: Workspace, iterations: Iterable[int]) -> None:
    """As if the stages of the iterations had run, and left what lies on disk. What `dvc.lock` has
    of others stays."""
    path = workspace.root / "dvc.lock"
    lock = yaml.safe_load(path.read_text()) if path.exists() else {"schema": "2.0", "stages": {}}
    for iteration in iterations:
        settings = yaml.safe_load(workspace.frozen_params_file(iteration).read_text())
        for address in stage_addresses(iteration):
            lock["stages"][address] = entry_of(workspace, address, iteration, settings)
    path.write_text(yaml.safe_dump(lock, sort_keys=False))


def edit_lock(workspace: Workspace, address: str, **changes: Any) -> None:
    """Change keys of a stage's entry in dvc.lock; a key set to None takes the entry out."""
    path = workspace.root / "dvc.lock"
    lock = yaml.safe_load(path.read_text())
    if changes:
        lock["stages"].setdefault(address, {}).update(changes)
    else:
        del lock["stages"][address]
    path.write_text(yaml.safe_dump(lock, sort_keys=False))


def write_settings(workspace: Workspace, iteration: int, **settings: Any) -> None:
    """Add settings that no stage reads to an iteration's frozen file."""
    path = workspace.frozen_params_file(iteration)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings, width=10**6))


def rerun(workspace: Workspace, address: str, path: Path, text: str) -> None:
    """As if the stage had run again and written `text` to one of its outputs."""
    path.write_text(text)
    lock = yaml.safe_load((workspace.root / "dvc.lock").read_text())
    relative = workspace.relative(path)
    outs = [out for out in lock["stages"][address]["outs"] if out["path"] != relative]
    edit_lock(workspace, address, outs=[*outs, _locked(workspace, path)])


def _freeze(workspace: Workspace, iteration: int) -> None:
    settings: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    settings["iteration"] = iteration
    names = ("problems", "base", "sample", "consult", "tabulate", "train", "evaluate", "gate")
    settings["stage_versions"] = dict.fromkeys(names, 1)
    if iteration >= 2:
        settings["train"]["learning_rate"] = 0.0005
    path = workspace.frozen_params_file(iteration)
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def _write_files(workspace: Workspace, iteration: int) -> None:
    if iteration == 0:
        for number, name in enumerate(("warm_start", "train", "eval")):
            ids = list(range(number * 100, number * 100 + 64))
            columns = {"problem_id": ids, "prompt": ["2-2-1-5-1+5="] * 64, "answer": ["5"] * 64}
            write_table(workspace.problems_dir / f"{name}.parquet", columns)
    else:
        _write_iteration(workspace, iteration)
    policy = workspace.policy_dir(iteration)
    policy.mkdir(parents=True)
    (policy / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (policy / "model.safetensors").write_bytes(bytes([iteration]) * 4096)
    evaluation = {"problem_id": list(range(200, 264)), "num_correct": [iteration] * 64}
    write_table(workspace.evaluation_file(iteration), evaluation)
    if iteration:
        _write_gate(workspace, iteration)
    metrics = workspace.metrics_file(iteration)
    metrics.write_text(json.dumps(_metrics(iteration), sort_keys=True))
    finished = workspace.finish_times_file(iteration)
    finished.parent.mkdir(parents=True, exist_ok=True)
    finished.write_text(json.dumps({"evaluate": START_S + 60 * iteration}))


def _write_gate(workspace: Workspace, iteration: int) -> None:
    difference = {"value": 0.1, "low": 0.08, "high": 0.12}
    decision = {
        "iteration": iteration,
        "promoted": 1,
        "stopped": 0,
        "champion": iteration,
        "handed_over": iteration,
        "parent": iteration - 1,
        "compared_with": iteration - 1,
        "reasons": "",
        "from_champion": {"pass_at_1": difference},
        "from_parent": {"pass_at_1": difference},
    }
    workspace.decision_file(iteration).write_text(json.dumps(decision))
    shutil.copytree(workspace.policy_dir(iteration), workspace.handover_dir(iteration))
    for path in (
        workspace.champion_evaluation_file(iteration),
        workspace.handover_evaluation_file(iteration),
    ):
        shutil.copy(workspace.evaluation_file(iteration), path)


def _write_iteration(workspace: Workspace, iteration: int) -> None:
    rows = 96
    tokens = [[1, 2, 3, iteration]] * rows
    write_table(
        workspace.rollouts_file(iteration),
        {"problem_id": list(range(rows)), "tokens": tokens, "behaviour_logprobs": [[0.5]] * rows},
    )
    write_table(
        workspace.consultations_file(iteration),
        {"problem_id": list(range(rows)), "reward": [0.5 + iteration / 100] * rows},
    )
    for shard in range(2):
        columns = {"expert_ids": tokens[:48], "step": [iteration + shard] * 48}
        write_table(workspace.feedback_dir(iteration) / f"{shard:05d}.parquet", columns)
    header = "step,loss,learning_rate,gradient_norm,cross_entropy\n"
    lines = [
        f"{step},{1.2 * math.exp(-step / 9):.4f},{0.001 * (1 - step / 40):.6f},0.7,0.4"
        for step in range(32)
    ]
    workspace.train_curve_file(iteration).write_text(header + "\n".join(lines) + "\n")
    timings = workspace.timings_file(iteration)
    timings.parent.mkdir(parents=True, exist_ok=True)
    seconds = {"sample": 2.1, "consult": 0.3, "tabulate": 1.4, "train": 3.3, "evaluate": 1.0}
    timings.write_text(json.dumps(seconds))


def _metrics(iteration: int) -> dict[str, float]:
    first = (0.262, 0.391, 0.634, 0.762, 0.858, 0.902, 0.941)[min(iteration, 6)]
    metrics: dict[str, float] = {"iteration": iteration, "num_problems": 512, "num_samples": 8}
    for k in (1, 2, 4, 8):
        value = 1 - (1 - first) ** (0.5 + 0.5 * k)
        metrics |= {
            f"pass_at_{k}": round(value, 4),
            f"pass_at_{k}_low": round(value - 0.03 * (1.2 - value), 4),
            f"pass_at_{k}_high": round(min(1.0, value + 0.03 * (1.2 - value)), 4),
        }
    return metrics | {
        "mean_reward": first,
        "malformed_rate": 0.01,
        "truncation_rate": 0.0,
        "response_tokens_mean": 6.0 + iteration / 100,
    }


def write_table(path: Path, columns: dict[str, Any]) -> None:
    """A Parquet file with the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def entry_of(
    workspace: Workspace,
    address: str,
    iteration: int,
    settings: dict[str, Any],
    keys: list[str] | None = None,
) -> dict[str, Any]:
    """What DVC would record of a stage with what lies on disk. keys: settings it reads."""
    reads, writes, usual_keys = stage_of(workspace, address.partition("@")[0], iteration)
    frozen = workspace.relative(workspace.frozen_params_file(iteration))
    recorded = {key: _lookup(settings, key) for key in keys or usual_keys}
    return {
        "cmd": f"python -m distil_tasks.{address.replace('@', ' --iteration ')}",
        "deps": [_locked(workspace, path) for path in reads],
        "params": {frozen: recorded},
        "outs": [_locked(workspace, path) for path in writes if path.exists()],
    }


def stage_of(
    workspace: Workspace, name: str, iteration: int
) -> tuple[list[Path], list[Path], list[str]]:
    """What a stage reads, what it writes, and some of the settings it reads."""
    ws, i = workspace, iteration
    problems = {n: ws.problems_dir / f"{n}.parquet" for n in ("warm_start", "train", "eval")}
    if name == "problems":
        return [], list(problems.values()), ["seed", "problems"]
    if name == "base":
        return [problems["warm_start"]], [ws.policy_dir(0)], ["seed", "base", "problems.source"]
    if name == "evaluate":
        reads = [problems["eval"], ws.policy_dir(i)]
        return reads, [ws.evaluation_file(i), ws.metrics_file(i)], ["seed", "evaluate"]
    parent = ws.parent_dir(i)
    if name == "gate":
        tables = [ws.handover_evaluation_file(i - 1), ws.champion_evaluation_file(i - 1)]
        made = [ws.handover_evaluation_file(i), ws.champion_evaluation_file(i)]
        reads = [ws.evaluation_file(i), *tables, ws.policy_dir(i), parent]
        return reads, [ws.decision_file(i), ws.handover_dir(i), *made], ["seed", "gate"]
    rollouts, consultations = ws.rollouts_file(i), ws.consultations_file(i)
    return {
        "sample": ([problems["train"], parent], [rollouts], ["seed", "sample"]),
        "consult": ([problems["train"], rollouts], [consultations], ["seed", "consult"]),
        "tabulate": (
            [problems["train"], rollouts, consultations, ws.policy_dir(0)],
            [ws.feedback_dir(i)],
            ["seed", "tabulate"],
        ),
        "train": (
            [ws.feedback_dir(i), parent],
            [ws.policy_dir(i), ws.train_curve_file(i)],
            ["seed", "train"],
        ),
    }[name]


def _locked(workspace: Workspace, path: Path) -> dict[str, Any]:
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return {
        "path": workspace.relative(path),
        "hash": "md5",
        "md5": content_md5(path),
        "size": sum(file.stat().st_size for file in files),
    }


def _lookup(settings: Any, dotted_key: str) -> Any:
    for part in dotted_key.split("."):
        settings = settings[part]
    return settings


def reject(workspace: Workspace, iteration: int, **changes: Any) -> None:
    """As if the gate of the iteration had kept the policy it started from."""
    path = workspace.decision_file(iteration)
    rejected = {"promoted": 0, "reasons": "pass_at_1 is worse", **changes}
    decision = json.loads(path.read_text()) | rejected
    rerun(workspace, f"gate@{iteration:03d}", path, json.dumps(decision))


def in_child(action: Callable[[], object]) -> int:
    """Run in a forked process (MLflow is imported already); its wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]
