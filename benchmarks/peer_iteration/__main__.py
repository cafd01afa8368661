"""A whole iteration beside TRL's SDPO trainer: the same policy, prompts, rollouts and steps.

`python -m benchmarks.peer_iteration` runs iteration 1 of the campaign in this workspace: sample
rollouts, score them with the expert that read feedback, train. Needs `make peers` and the base
policy of `make run`. Exits 1 where the two did not do the same number of rollouts and steps, or
where their numbers of tokens differ by more than a tenth.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import (
    Run,
    machine,
    markdown_table,
    median_of,
    minimum_of,
    require_peers,
    run_in_turn,
)
from benchmarks.peer_iteration.work import make_workspace, peer_work
from distil_core.workspace import Workspace

OURS = "DistIL"
MODES = ("topk_logits", "full_logits", "sampled_token")
EQUAL = ("generations", "rollouts", "expert_rows", "steps")
SIMILAR = ("response_tokens", "expert_tokens")
MOST_APART = 0.1
COMPUTED = "positions"
"""How the two differ: token positions that went through the model, padding included."""


def main() -> None:
    """Print the table, or exit with what was not the same work."""
    arguments = _parse_arguments()
    peers_python = require_peers()
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Workspace(Path.cwd()), Path(folder) / "workspace")
        work = peer_work(workspace)
        work_file = Path(folder) / "work.json"
        work_file.write_text(json.dumps(work), encoding="utf-8")
        ours = [sys.executable, "-m", "benchmarks.peer_iteration.distil", str(workspace.root)]
        peer = [peers_python, "-m", "benchmarks.peer_iteration.sdpo", str(work_file)]
        commands = {OURS: ours} | {_peer_name(mode): [*peer, mode] for mode in arguments.modes}
        runs = run_in_turn(commands, arguments.repeats, work["num_threads"])
    problems = differences(runs)
    print(report(runs, arguments.repeats))
    if problems:
        sys.exit("not the same work: " + "; ".join(problems))


def differences(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Where a peer did other work than DistIL; sampled lengths may differ a little."""
    found = []
    ours = runs[OURS][0].figures
    for name, (first, *_) in runs.items():
        for figure in EQUAL:
            if first.figures[figure] != ours[figure]:
                found.append(f"{name}: {figure} {first.figures[figure]}, {OURS} {ours[figure]}")
        for figure in SIMILAR:
            apart = abs(first.figures[figure] / ours[figure] - 1)
            if apart > MOST_APART:
                found.append(f"{name}: {figure} {first.figures[figure]}, {OURS} {ours[figure]}")
    return found


def report(runs: Mapping[str, Sequence[Run]], repeats: int) -> str:
    """Two Markdown tables: what it took, and what was done."""
    ours = runs[OURS]
    took = [
        [
            name,
            f"{minimum_of(found, _work_s):.2f}",
            f"{median_of(found, _work_s):.2f}",
            f"{minimum_of(found, _work_s) / minimum_of(ours, _work_s):.2f}",
            f"{minimum_of(found, _start_s):.1f}",
            f"{minimum_of(found, _cpu_s):.1f}",
            f"{minimum_of(found, _peak_mb):.0f}",
            f"{minimum_of(found, _peak_mb) / minimum_of(ours, _peak_mb):.2f}",
        ]
        for name, found in runs.items()
    ]
    did = [
        [name, *(f"{found[0].figures[figure]:,}" for figure in (*EQUAL[1:], *SIMILAR, COMPUTED))]
        for name, found in runs.items()
    ]
    stages = ", ".join(
        f"{stage} {minimum_of(ours, lambda run, key=f'{stage}_s': run.figures[key]):.2f}"  # type: ignore[misc]
        for stage in ("sample", "consult", "tabulate", "train")
    )
    return "\n\n".join(
        [
            f"{machine()}; least of {repeats} runs in turn, one process each.",
            markdown_table(
                [
                    "",
                    "iteration s",
                    "median s",
                    "ratio",
                    "start-up s",
                    "CPU s in all",
                    "peak MB",
                    "ratio",
                ],
                took,
            ),
            f"DistIL's stages, seconds: {stages}.",
            markdown_table(
                [
                    "",
                    "rollouts",
                    "expert rows",
                    "steps",
                    "response tokens",
                    "expert tokens",
                    "positions computed",
                ],
                did,
            ),
        ]
    )


def _work_s(run: Run) -> float:
    return float(run.figures["work_s"])


def _start_s(run: Run) -> float:
    return float(run.figures["import_s"] + run.figures["set_up_s"])


def _cpu_s(run: Run) -> float:
    return run.cpu_s


def _peak_mb(run: Run) -> float:
    return run.peak_mb


def _peer_name(mode: str) -> str:
    return f"TRL SDPO, `{mode}`"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peer_iteration", description=__doc__
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    return parser.parse_args()


if __name__ == "__main__":
    main()
