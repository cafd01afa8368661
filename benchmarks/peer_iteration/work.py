"""The work that both do: iteration 1 of a campaign, as a workspace and as rows for the peer."""

import json
import shutil
from pathlib import Path
from typing import Any

from distil_core.campaign.load import load_iteration_params
from distil_core.config.models import IterationParams
from distil_core.errors import DataError
from distil_core.feedback.compose import render_student
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.problems.base import Problem
from distil_core.problems.choice import choose_problems
from distil_core.problems.store import read_problems
from distil_core.verifiers import build_verifier
from distil_core.workspace import Workspace


def make_workspace(source: Workspace, folder: Path) -> Workspace:
    """A workspace with the campaign's settings, problems and base policy, and nothing else."""
    workspace = Workspace(folder)
    for path in (source.policy_dir(0), source.problems_dir):
        if not path.is_dir():
            raise DataError(
                f"no {source.relative(path)} in {source.root}: `make run` makes it, or "
                "`dvc repro base` in .venv"
            )
        shutil.copytree(path, folder / source.relative(path))
    settings = source.frozen_params_file(1)
    copy = workspace.frozen_params_file(1)
    copy.parent.mkdir()
    shutil.copyfile(settings, copy)
    return workspace


def peer_work(workspace: Workspace) -> dict[str, Any]:
    """What the peer's process needs, JSON-able: the same prompts in the same order, and settings.

    The peer's feedback is a column of its dataset, so it cannot depend on the rollout. Its rows
    get what the tools would say of the reference called wrong: as long as that of an attempt.
    """
    params = load_iteration_params(workspace, 1)
    train, sample = params.train, params.sample
    return {
        "policy_dir": str(workspace.policy_dir(0)),
        "rows": _rows(workspace, params),
        "consult": params.consult.model_dump(),
        "num_threads": params.compute.num_threads,
        "num_generations": sample.num_rollouts,
        "max_new_tokens": sample.max_new_tokens,
        "top_k": params.tabulate.top_k,
        "num_steps": train.num_steps,
        "batch_rollouts": train.batch_rollouts,
        "learning_rate": train.learning_rate,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
    }


def _rows(workspace: Workspace, params: IterationParams) -> list[dict[str, str]]:
    problems = choose_problems(
        read_problems(workspace.problems_dir / "train.parquet"),
        params.sample.num_prompts,
        1,
        params.seed,
    )
    renderer = ContextRenderer(params.context, load_tokenizer(workspace.policy_dir(0)))
    verifier = build_verifier(params.consult)
    rows = []
    for problem in problems:
        feedback = verifier.verify(problem, problem.reference).feedback
        expert = renderer.expert(
            problem.prompt, problem.reference, "wrong", feedback, problem.problem_id
        )
        text = "".join(segment.text for segment in expert.segments)
        student = render_student(params.context.student_template, problem.prompt)
        rows.append(
            {
                "prompt": "".join(segment.text for segment in student),
                "privileged_context": text.removeprefix(problem.prompt),
                "problem": _as_json(problem),
            }
        )
    verifier.close()
    return rows


def _as_json(problem: Problem) -> str:
    return json.dumps(
        {"prompt": problem.prompt, "reference": problem.reference, "metadata": problem.metadata}
    )
