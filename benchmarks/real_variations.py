"""One iteration on a real chat model, with one thing changed at a time.

`python -m benchmarks.real_variations real/smollm2` after `make real` takes the rollouts of that
workspace's iteration 1 and learns from them anew, with another expert or another objective and all
else as in the campaign: verdicts, feedback table, training and evaluation are made by the stages'
own code, in a scratch workspace. Three to five minutes for each on two cores.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import machine, markdown_table
from distil_core.campaign import load_iteration_params, parse_iteration_params
from distil_core.campaign.extends import read_settings
from distil_core.campaign.overrides import overridden, parse_overrides
from distil_core.config.models import IterationParams
from distil_core.errors import DataError, DistilError
from distil_core.files import link_or_copy
from distil_core.lineage.evidence.inputs import read_metrics
from distil_core.progress import no_progress
from distil_core.workspace import Workspace
from distil_tasks import consult, evaluate, tabulate, train

_PROGRAM = "{program: {name: reference}, num_workers: 1, label_smoothing: 0.02}"
VARIATIONS: dict[str, str] = {
    "expert not sharpened": "tabulate.expert.options.temperature=1.0",
    "expert sharpened to 0.25": "tabulate.expert.options.temperature=0.25",
    "expert silent on right attempts": "consult.verifier.options.confirm_steps=false",
    "the program `reference` as expert": f"tabulate.expert={{name: program, options: {_PROGRAM}}}",
    "local matching, no future credit": "train.objective.options.weight=0.0",
    "future credit not discounted": "train.objective.options.discount=1.0",
    "reverse KL (SDPO)": "train.objective={name: reverse_kl}",
    "the reward alone (GRPO)": "train.objective={name: grpo}",
}
"""What differs from the campaign, as `--set` takes it."""


def main() -> None:
    """Print a table with a row for each variation, as soon as it is known."""
    parser = argparse.ArgumentParser("python -m benchmarks.real_variations", description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--only", nargs="+", choices=VARIATIONS, metavar="NAME")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.workspace.resolve())
    try:
        params = load_iteration_params(workspace, 1)
        num_rows = params.sample.num_prompts * params.sample.num_rollouts
        print(
            f"{machine()}. One iteration of {num_rows} rollouts and {params.train.num_steps} steps "
            f"at {params.train.learning_rate:g}; {params.problems.num_eval} held-out problems, "
            f"{params.evaluate.num_samples} samples each; 95% intervals over problems.\n"
        )
        header = ["", "pass@1", f"pass@{params.evaluate.num_samples}", "malformed", "entropy"]
        print(markdown_table(header, []))
        for number, name in enumerate(("the base", "one iteration as it is")):
            _print_row(name, read_metrics(workspace, workspace.metrics_file(number)))
        for name in arguments.only or VARIATIONS:
            _print_row(name, learned(workspace, params, VARIATIONS[name]))
    except DistilError as error:
        sys.exit(f"{error}")


def learned(workspace: Workspace, params: IterationParams, *changes: str) -> dict[str, float]:
    """The metrics of the policy that iteration 1 would have made with these changes."""
    frozen = read_settings(workspace.frozen_params_file(1), "iteration 1")
    overlay = parse_overrides([*changes, "evaluate.num_expert_samples=0"])
    changed = parse_iteration_params(overridden(frozen, overlay).values, "iteration 1, varied")
    with TemporaryDirectory(dir=workspace.scratch_dir) as folder:
        scratch = Workspace(Path(folder))
        for path in (workspace.problems_dir, workspace.policy_dir(0), workspace.rollouts_file(1)):
            _link(path, scratch.root / workspace.relative(path))
        if changed.consult == params.consult and changed.tabulate == params.tabulate:
            _link(workspace.feedback_dir(1), scratch.feedback_dir(1))
        else:
            consult.body(scratch, changed, no_progress)
            tabulate.body(scratch, changed, no_progress)
        train.body(scratch, changed, no_progress)
        evaluate.body(scratch, changed, no_progress)
        return read_metrics(scratch, scratch.metrics_file(1))


def _link(source: Path, target: Path) -> None:
    if not source.exists():
        raise DataError(f"{source} is not there: `make real` makes it")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=link_or_copy)
    else:
        link_or_copy(str(source), str(target))


def _print_row(name: str, metrics: Mapping[str, float]) -> None:
    largest = f"pass_at_{metrics['num_samples']:.0f}"
    intervals = [
        f"{metrics[key]:.3f} [{metrics[f'{key}_low']:.3f}, {metrics[f'{key}_high']:.3f}]"
        for key in ("pass_at_1", largest)
    ]
    others = [f"{metrics[key]:.3f}" for key in ("malformed_rate", "entropy_per_response")]
    print(f"| {' | '.join([name, *intervals, *others])} |", flush=True)


if __name__ == "__main__":
    main()
