"""Stage `problems`: the campaign's problems in disjoint splits, each of which can be verified."""

from collections.abc import Mapping, Sequence
from contextlib import closing

from distil_core.config.models import IterationParams, ProblemParams
from distil_core.errors import DataError, VerifierError
from distil_core.problems import build_generalisation_source, build_source
from distil_core.problems.base import Problem, ProblemSource, ReportingSource, StoredSource
from distil_core.problems.refused import Refused
from distil_core.problems.splits import SplitSize, generalisation_split, make_splits
from distil_core.problems.store import write_problems
from distil_core.progress import ProgressCallback
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verifier
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write data/problems/{eval,train,warm_start,generalisation}.parquet; the last has no rows
    where the settings ask for none. Raises `DataError` that names all problems which the campaign's
    verifier cannot read: after sampling they would come up one by one."""
    source, harder = build_source(params.problems), build_generalisation_source(params.problems)
    with closing(build_verifier(params.consult)) as verifier:
        _check_stored([source, harder], verifier)
        splits = _splits(source, harder, params.problems, params.seed)
        _require_enough_to_sample(splits["train"], params)
        _check_chosen(splits, verifier)
    context = {"problems": params.problems.model_dump(), "seed": params.seed}
    if isinstance(source, ReportingSource):
        context["found"] = source.report()
    for done, (split, problems) in enumerate(splits.items()):
        write_problems(
            workspace.problems_dir / f"{split}.parquet", problems, {**context, "split": split}
        )
        progress(done + 1, len(splits))


def _splits(
    source: ProblemSource, harder: ProblemSource | None, params: ProblemParams, seed: int
) -> dict[str, list[Problem]]:
    sizes: dict[str, SplitSize] = {
        "eval": params.num_eval,
        "train": params.num_train,
        "warm_start": params.num_warm_start,
    }
    splits = make_splits(source, sizes, seed)
    settings = params.generalisation
    splits["generalisation"] = (
        generalisation_split(harder, settings.num_problems, splits, seed)
        if harder and settings
        else []
    )
    return splits


def _require_enough_to_sample(problems: Sequence[Problem], params: IterationParams) -> None:
    if len(problems) < params.sample.num_prompts:
        raise DataError(
            f"the source has {len(problems)} training problems, and each iteration samples "
            f"{params.sample.num_prompts} (sample.num_prompts): lower that, or add problems"
        )


def _check_stored(sources: Sequence[ProblemSource | None], verifier: Verifier) -> None:
    for source in sources:
        if isinstance(source, StoredSource):
            source.require_readable(verifier.check_problem)


def _check_chosen(splits: Mapping[str, Sequence[Problem]], verifier: Verifier) -> None:
    """Check the chosen problems, which are all there are where a source generates them."""
    refused = Refused()
    for split, problems in splits.items():
        for problem in problems:
            try:
                verifier.check_problem(problem)
            except VerifierError as error:
                refused.add(f"{split}, problem {problem.problem_id}", str(error))
    if refused.count:
        raise DataError(
            f"the campaign's verifier (consult.verifier) cannot read {refused.count} of the "
            f"problems that the source makes:\n  {refused}\nName the verifier that is of this "
            "source in params.yaml"
        )


STAGE = StageSpec("problems", version=3, body=body)

if __name__ == "__main__":
    main(STAGE)
