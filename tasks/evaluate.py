"""Stage `evaluate`: Pass@N of a policy on held-out problems, without feedback."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distil_core.config.models import IterationParams
from distil_core.engines import build_engine
from distil_core.engines.base import SampledResponse, SampleRequest, SamplingSettings
from distil_core.evaluation.summary import summarise
from distil_core.feedback.contexts import ContextRenderer, RenderedContext, count_shortened
from distil_core.files import write_text
from distil_core.policy.tokenizer import decode, load_tokenizer, tokenizer_digest
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import EVALUATION
from distil_core.tables.store import write_table
from distil_core.tools import build_verifier
from distil_core.tools.base import Verifier
from distil_core.verification import (
    Journal,
    KeptVerdicts,
    VerificationJob,
    settings_digest,
    verify_all,
)
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write evaluation.parquet (a row for each problem) and metrics.json."""
    iteration, settings = params.iteration, params.evaluate
    policy_dir = workspace.policy_dir(iteration)
    tokenizer = load_tokenizer(policy_dir)
    # One that cannot work here is refused before anything is sampled.
    build_verifier(params.consult).close()
    engine = build_engine(params.sample.engine, policy_dir, params.compute)
    problems = read_problems(workspace.problems_dir / "eval.parquet")
    renderer = ContextRenderer(params.context, tokenizer)
    contexts = [renderer.student(problem.prompt, problem.problem_id) for problem in problems]
    responses = engine.sample(
        _requests(problems, contexts, params),
        SamplingSettings(settings.max_new_tokens, settings.temperature, settings.top_p),
        progress,
    )
    jobs = (
        VerificationJob(
            problems[index // settings.num_samples], decode(tokenizer, sample.token_ids)
        )
        for index, sample in enumerate(responses)
    )
    digest = settings_digest(params.consult, STAGE.version)
    with Journal(workspace.verification_journal("evaluate", iteration), digest) as journal:
        num_workers = params.verification.num_workers
        verify_all(jobs, len(responses), params.consult, num_workers, journal, progress)
        verifier = KeptVerdicts(journal)
        rows = []
        for index, problem in enumerate(problems):
            start = index * settings.num_samples
            samples = responses[start : start + settings.num_samples]
            rows.append(judge(problem, samples, verifier, tokenizer))
        _write(workspace, params, rows, tokenizer, contexts)
        journal.remove()


def _write(
    workspace: Workspace,
    params: IterationParams,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[RenderedContext],
) -> None:
    iteration, settings = params.iteration, params.evaluate
    context = {
        "iteration": iteration,
        "evaluate": settings.model_dump(),
        "tokenizer_digest": tokenizer_digest(tokenizer),
    }
    write_table(workspace.evaluation_file(iteration), EVALUATION, rows, context)
    # The same resamples for every iteration, so that intervals differ by the policy alone.
    seed = derive_seed(params.seed, "evaluate")
    metrics = {"iteration": iteration, **summarise(rows, settings.num_bootstrap, seed)}
    if params.context.shorten:
        metrics["shortened_contexts"] = count_shortened(contexts)["contexts"]
    write_text(workspace.metrics_file(iteration), json.dumps(metrics, indent=2) + "\n")


def judge(
    problem: Problem,
    samples: Sequence[SampledResponse],
    verifier: Verifier,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """One problem's row. A truncated response is never correct. A `VerifierError` ends the
    evaluation: a missing verdict must not look like a wrong answer."""
    texts = [decode(tokenizer, sample.token_ids) for sample in samples]
    truncated = [sample.finish_reason == "length" for sample in samples]
    verdicts = [verifier.verify(problem, text).verdict for text in texts]
    return {
        "problem_id": problem.problem_id,
        "num_samples": len(samples),
        "num_correct": sum(
            verdict == "correct" and not cut
            for verdict, cut in zip(verdicts, truncated, strict=True)
        ),
        "num_malformed": sum(
            verdict == "malformed" and not cut
            for verdict, cut in zip(verdicts, truncated, strict=True)
        ),
        "num_truncated": sum(truncated),
        "num_distinct": len(set(texts)),
        "response_tokens_mean": sum(len(sample.token_ids) for sample in samples) / len(samples),
        "first_response": texts[0],
    }


def _requests(
    problems: Sequence[Problem], contexts: Sequence[RenderedContext], params: IterationParams
) -> list[SampleRequest]:
    requests = []
    for problem, context in zip(problems, contexts, strict=True):
        for index in range(params.evaluate.num_samples):
            # Not by iteration: the same numbers for every policy make differences sharper.
            seed = derive_seed(params.seed, "evaluate", problem.problem_id, index)
            requests.append(SampleRequest(context.token_ids, seed))
    return requests


STAGE = StageSpec("evaluate", per_iteration=True, version=1, body=body)

if __name__ == "__main__":
    main(STAGE)
