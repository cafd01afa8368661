"""Stage `problems`: the campaign's problems, in disjoint splits."""

from distil_core.config.models import IterationParams
from distil_core.problems import build_generalisation_source, build_source
from distil_core.problems.base import ReportingSource
from distil_core.problems.splits import generalisation_split, make_splits
from distil_core.problems.store import write_problems
from distil_core.progress import ProgressCallback
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write data/problems/{eval,train,warm_start,generalisation}.parquet, the last one without
    rows where the settings ask for none."""
    source = build_source(params.problems)
    sizes = {
        "eval": params.problems.num_eval,
        "train": params.problems.num_train,
        "warm_start": params.problems.num_warm_start,
    }
    splits = make_splits(source, sizes, params.seed)
    harder, settings = build_generalisation_source(params.problems), params.problems.generalisation
    splits["generalisation"] = (
        generalisation_split(harder, settings.num_problems, splits, params.seed)
        if harder and settings
        else []
    )
    context = {"problems": params.problems.model_dump(), "seed": params.seed}
    if isinstance(source, ReportingSource):
        context["found"] = source.report()
    for done, (split, problems) in enumerate(splits.items()):
        write_problems(
            workspace.problems_dir / f"{split}.parquet", problems, {**context, "split": split}
        )
        progress(done + 1, len(splits))


STAGE = StageSpec("problems", per_iteration=False, version=2, body=body)

if __name__ == "__main__":
    main(STAGE)
