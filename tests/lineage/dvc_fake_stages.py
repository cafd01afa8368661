"""Stand-ins for the stages in a scratch workspace: small files that depend on seed and inputs.

Copied into the scratch workspace as its `tasks` package's helper, so it imports nothing of ours.
"""

import hashlib
import re
import sys
from pathlib import Path

INPUTS = {
    "problems": [],
    "base": ["data/problems/warm_start.parquet"],
    "sample": ["data/problems/train.parquet", "{parent}"],
    "consult": ["data/problems/train.parquet", "{folder}/rollouts.parquet"],
    "tabulate": ["{folder}/rollouts.parquet", "{folder}/consultations.parquet"],
    "train": ["{folder}/feedback", "{parent}"],
    "evaluate": [
        "data/problems/eval.parquet",
        "data/problems/generalisation.parquet",
        "{policy}",
        "data/policy-000",
    ],
    "gate": [
        "{folder}/evaluation.parquet",
        "{policy}",
        "{parent}",
        "{parent_evaluation}",
        "{champion_evaluation}",
    ],
}
OUTPUTS = {
    "problems": [
        f"data/problems/{name}.parquet"
        for name in ("warm_start", "train", "eval", "generalisation")
    ],
    "base": ["data/policy-000/"],
    "sample": ["{folder}/rollouts.parquet"],
    "consult": ["{folder}/consultations.parquet"],
    "tabulate": ["{folder}/feedback/"],
    "train": ["{folder}/policy/", "{folder}/train_curve.csv"],
    "evaluate": [
        "{folder}/metrics.json",
        "{folder}/pass_at_k.csv",
        "{folder}/evaluation.parquet",
    ],
    "gate": [
        "{folder}/decision.json",
        "{folder}/handover/",
        "{folder}/handover_evaluation.parquet",
        "{folder}/champion_evaluation.parquet",
    ],
}


def write_outputs(root: Path, address: str) -> None:
    """Make all outputs of a stage from its inputs' bytes and the frozen seed."""
    name, _, key = address.partition("@")
    places = _places(key or "000")
    seed = re.search(r"seed: (\d+)", (root / f"iterations/{key or '000'}.yaml").read_text())[1]
    made_from = hashlib.md5(f"{address} {seed}".encode())
    for template in INPUTS[name]:
        for path in _files(root / template.format(**places)):
            made_from.update(path.read_bytes())
    number = int(made_from.hexdigest()[:4], 16)
    for template in OUTPUTS[name]:
        path = root / template.format(**places)
        if template.endswith("/"):
            path = path / "part-0"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_content(path.suffix, number))


def _places(key: str) -> dict[str, str]:
    number = int(key)
    before = f"data/iterations/{number - 1:03d}"
    references = {
        role: f"{before}/{name}evaluation.parquet"
        for role, name in (
            ("parent_evaluation", "handover_" if number > 1 else ""),
            ("champion_evaluation", "champion_" if number > 1 else ""),
        )
    }
    return {
        "folder": f"data/iterations/{key}",
        "policy": f"data/iterations/{key}/policy" if number else "data/policy-000",
        "parent": f"{before}/handover" if number > 1 else "data/policy-000",
        **references,
    }


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*")) if path.is_dir() else [path]


def _content(suffix: str, number: int) -> str:
    if suffix == ".json":
        return f'{{"iteration": 0, "pass_at_1": {number / 65536}}}\n'
    if suffix == ".csv":
        rows = "".join(f"{step},{step},{number / step},{number / step},0.5\n" for step in (1, 2))
        return f"step,k,loss,cross_entropy,pass_at_k\n{rows}"
    return f"{number}\n"


def main() -> None:
    """`python -m distil_tasks.sample --iteration 001`, as dvc.yaml calls it."""
    name = Path(sys.argv[0]).stem
    address = f"{name}@{int(sys.argv[2]):03d}" if len(sys.argv) > 2 else name
    write_outputs(Path.cwd(), address)
