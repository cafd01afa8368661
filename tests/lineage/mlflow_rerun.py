"""A campaign of tests/lineage/mlflow_scratch.py brought up to date, by DVC's rules for what is not.

A stage runs when `dvc.yaml` names settings of it, or files it reads, that `dvc.lock` has otherwise.
What it then writes depends on them, as the real stages' outputs do.
"""

import hashlib
import json
import shutil
from typing import Any

import yaml
from mlflow_scratch import PROJECT, edit_lock, entry_of, stage_of, write_table

from distil_core.evaluation.pass_at_k import powers_of_two_up_to
from distil_core.lineage.dvc.lock import read_entries
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace

WIDE_MARGIN = 0.02
"""Of gate.margins, from which on the stand-in gate promotes a policy."""

_STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]


class Interrupted(Exception):
    """As a stage that is killed: its outputs are gone, its former entry is still there."""


def run_iteration(workspace: Workspace, iteration: int, kill: str | None = None) -> list[str]:
    """Run what is not up to date of one iteration; the stages that ran. kill: a stage that is
    interrupted if it has to run."""
    ran = []
    settings = yaml.safe_load(workspace.frozen_params_file(iteration).read_text())
    for address in stage_addresses(iteration):
        name = address.partition("@")[0]
        before = read_entries(workspace).get(address, {})
        now = entry_of(workspace, address, iteration, settings, _keys(name))
        _, outputs, _ = stage_of(workspace, name, iteration)
        if all(before.get(part) == now[part] for part in now) and len(now["outs"]) == len(outputs):
            continue
        for path in outputs:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if address == kill:
            raise Interrupted(address)
        made_from = json.dumps([address, now["deps"], now["params"]], sort_keys=True)
        digest = hashlib.md5(made_from.encode()).hexdigest()
        if name in ("base", "train"):
            _write_policy(workspace, iteration, digest)
        elif name == "evaluate":
            _write_evaluation(workspace, iteration, settings["evaluate"]["num_samples"], digest)
        elif name == "gate":
            _write_decision(workspace, iteration, settings["gate"])
        else:
            for path in outputs:
                file = path if path.suffix else path / "00000.parquet"
                write_table(file, {"problem_id": [1, 2], "made_from": [digest] * 2})
        edit_lock(
            workspace, address, **entry_of(workspace, address, iteration, settings, _keys(name))
        )
        ran.append(address)
    return ran


def _keys(name: str) -> list[str]:
    """The settings that a stage reads, by dvc.yaml."""
    stage = _STAGES[name].get("do", _STAGES[name])
    ((_, keys),) = stage["params"][0].items()
    return list(keys)


def _write_policy(workspace: Workspace, iteration: int, digest: str) -> None:
    policy = workspace.policy_dir(iteration)
    policy.mkdir(parents=True)
    (policy / "model.safetensors").write_text(digest)
    if iteration:
        workspace.train_curve_file(iteration).write_text(f"step,loss\n0,{_share(digest)}\n")


def _write_evaluation(workspace: Workspace, iteration: int, num_samples: int, digest: str) -> None:
    columns = {"problem_id": ["a"], "made_from": [digest]}
    write_table(workspace.evaluation_file(iteration), columns)
    metrics: dict[str, float] = {"iteration": iteration, "num_samples": num_samples}
    for k in powers_of_two_up_to(num_samples):
        value = 1 - (1 - _share(digest)) ** k
        metrics |= {f"pass_at_{k}": value, f"pass_at_{k}_low": value, f"pass_at_{k}_high": value}
    workspace.metrics_file(iteration).write_text(json.dumps(metrics))


def _write_decision(workspace: Workspace, iteration: int, gate: dict[str, Any]) -> None:
    """A wide margin promotes; otherwise the policy before goes on."""
    promoted = gate["margins"]["pass_at_1"] >= WIDE_MARGIN
    before = {"champion": 0, "handed_over": 0}
    if iteration > 1:
        before = json.loads(workspace.decision_file(iteration - 1).read_text())
    difference = {"value": 0.1, "low": 0.08, "high": 0.12}
    decision = {
        "iteration": iteration,
        "promoted": int(promoted),
        "stopped": 0,
        "champion": iteration if promoted else before["champion"],
        "handed_over": iteration if promoted else before["handed_over"],
        "parent": before["handed_over"],
        "compared_with": before["champion"],
        "reasons": "" if promoted else "pass_at_1 is worse",
        "from_champion": {"pass_at_1": difference},
        "from_parent": {"pass_at_1": difference},
    }
    workspace.decision_file(iteration).write_text(json.dumps(decision))
    policy = workspace.policy_dir(iteration) if promoted else workspace.parent_dir(iteration)
    shutil.copytree(policy, workspace.handover_dir(iteration))
    for role in ("champion", "handover"):
        passed_on = getattr(workspace, f"{role}_evaluation_file")
        kept = workspace.evaluation_file(iteration) if promoted else passed_on(iteration - 1)
        shutil.copy(kept, passed_on(iteration))


def _share(digest: str) -> float:
    return 0.1 + 0.5 * int(digest[:6], 16) / 16**6
