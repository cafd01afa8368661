"""Objectives on a real chat model: one iteration's table, learned from in several ways.

`python -m benchmarks.real_objectives real` after `make real` takes the feedback table of iteration
1 of that workspace, trains the base policy on it anew with each objective (same rollouts, expert,
steps and learning rate as the campaign), and measures each policy on the held-out problems, as the
stage `evaluate` does.
"""

import argparse
import sys
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import machine, markdown_table
from distil_core.campaign import load_iteration_params
from distil_core.campaign.sampler import training_temperature
from distil_core.config.models import Component, IterationParams
from distil_core.engines import build_engine
from distil_core.errors import DistilError
from distil_core.evaluation.judging import EXPERT_NOT_ASKED, problem_row
from distil_core.evaluation.sampling import (
    by_problem,
    evaluation_requests,
    sampling_settings,
    verify_and_judge,
)
from distil_core.evaluation.summary import summarise
from distil_core.feedback.contexts import ContextRenderer
from distil_core.objectives import OBJECTIVES
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model, write_policy
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.problems.messages import prompt_of
from distil_core.problems.store import read_problems
from distil_core.progress import no_progress
from distil_core.seeds import derive_seed
from distil_core.training.feedback_rows import read_feedback_tables
from distil_core.training.state import TrainingSetup
from distil_core.training.trainer import train
from distil_core.verifiers.pool import Journal, settings_digest
from distil_core.workspace import Workspace

_FORWARD = "forward_cross_entropy"
_KL = {"cost": "kl_divergence", "loss_normalisation": "tokens"}
OBJECTIVES_TRIED = {
    "forward cross-entropy, future credit (discount .5)": (_FORWARD, _KL | {"discount": 0.5}),
    "forward cross-entropy, future credit (exact)": (_FORWARD, _KL),
    "forward cross-entropy, local": (_FORWARD, _KL | {"weight": 0.0}),
    "reverse KL (SDPO)": ("reverse_kl", {}),
    "reward alone (GRPO)": ("grpo", {}),
}


def main() -> None:
    """Print a table with a row for each objective."""
    parser = argparse.ArgumentParser("python -m benchmarks.real_objectives", description=__doc__)
    parser.add_argument("workspace", type=Path)
    with chdir(parser.parse_args().workspace):
        workspace = Workspace(Path.cwd())
        try:
            params = load_iteration_params(workspace, 1)
            rows = [["the base, before", *measured(workspace, params, workspace.policy_dir(0))]]
            for name, (objective, options) in OBJECTIVES_TRIED.items():
                print(name, file=sys.stderr, flush=True)
                component = Component(name=objective, options=options)
                rows.append([name, *learned(workspace, params, component)])
        except DistilError as error:
            sys.exit(f"{error}")
    num_rows = params.sample.num_prompts * params.sample.num_rollouts
    print(
        f"{machine()}. One iteration of {num_rows} rollouts and {params.train.num_steps} steps; "
        f"{params.problems.num_eval} held-out problems, {params.evaluate.num_samples} samples "
        "each; 95% intervals over problems.\n"
    )
    print(markdown_table(["learned by", "pass@1", "pass@8", "malformed"], rows))


def learned(workspace: Workspace, params: IterationParams, objective: Component) -> list[str]:
    """The figures of the base after it learned from iteration 1's table by this objective."""
    parent = workspace.parent_dir(1)
    tokenizer = load_tokenizer(parent)
    settings = params.train.model_copy(update={"objective": objective})
    changed = params.model_copy(update={"train": settings})
    table = read_feedback_tables(
        [workspace.feedback_dir(1)], tokenizer_digest(tokenizer), workspace.scratch_dir
    )
    model = load_model(parent, params.compute)
    setup = TrainingSetup(
        settings,
        derive_seed(params.seed, 1, "train"),
        params.compute.dtype,
        end_token_ids(tokenizer),
        training_temperature(changed, range(0), lambda _: changed),
    )
    train(
        model,
        table,
        OBJECTIVES.build(objective.name, objective.options),
        setup,
        no_progress,
        None,
        None,
    )
    with TemporaryDirectory(dir=workspace.scratch_dir) as scratch:
        write_policy(model, tokenizer, Path(scratch))
        del model
        return measured(workspace, params, Path(scratch))


def measured(workspace: Workspace, params: IterationParams, policy_dir: Path) -> list[str]:
    """pass@1, pass@8 and the share of malformed responses on the held-out problems."""
    settings, tokenizer = params.evaluate, load_tokenizer(policy_dir)
    problems = read_problems(workspace.problems_dir / "eval.parquet")
    renderer = ContextRenderer(params.context, tokenizer)
    contexts = [renderer.student(prompt_of(one), one.problem_id).token_ids for one in problems]
    requests = evaluation_requests(problems, contexts, settings.num_samples, params.seed)
    engine = build_engine(params.sample.engine, policy_dir, params.compute)
    responses = engine.sample(requests, sampling_settings(settings), no_progress)
    repeated = [problem for problem in problems for _ in range(settings.num_samples)]
    with TemporaryDirectory(dir=workspace.scratch_dir) as scratch:
        journal_file = Path(scratch) / "verdicts.sqlite"
        with Journal(journal_file, settings_digest(params.consult, 0)) as journal:
            judged = verify_and_judge(
                repeated, responses, params.consult, 1, journal, tokenizer, no_progress
            )
    grouped = by_problem(problems, judged, settings.num_samples)
    rows = [
        problem_row(one.problem_id, "eval", grouped[one.problem_id], EXPERT_NOT_ASKED)
        for one in problems
    ]
    found = summarise(rows, settings.num_bootstrap, derive_seed(params.seed, "evaluate"))
    return [
        f"{found[key]:.3f} [{found[f'{key}_low']:.3f}, {found[f'{key}_high']:.3f}]"
        for key in ("pass_at_1", "pass_at_8")
    ] + [f"{found['malformed_rate']:.3f}"]


if __name__ == "__main__":
    main()
