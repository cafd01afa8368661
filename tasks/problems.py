"""Stage `problems`: the campaign's problems in disjoint splits, each of which can be verified."""

from collections.abc import Mapping, Sequence
from contextlib import closing

from distil_core.config.models import IterationParams
from distil_core.errors import DataError, VerifierError
from distil_core.problems.base import Problem, ReportingSource
from distil_core.problems.refused import Refused
from distil_core.problems.splits import campaign_problems
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
    with closing(build_verifier(params.consult)) as verifier:
        made = campaign_problems(params, verifier.check_problem)
        source, splits = made.source, made.splits
        _check_chosen(splits, verifier)
    context = {"problems": params.problems.model_dump(), "seed": params.seed}
    if isinstance(source, ReportingSource):
        context["found"] = source.report()
    for done, (split, problems) in enumerate(splits.items()):
        write_problems(
            workspace.problems_dir / f"{split}.parquet", problems, {**context, "split": split}
        )
        progress(done + 1, len(splits))


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
