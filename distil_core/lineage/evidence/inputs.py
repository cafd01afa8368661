"""The files from which a record is made: settings, metrics, the training curve, timings."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distil_core.errors import LineageError
from distil_core.lineage.dvc.digest import content_md5
from distil_core.workspace import Workspace

_SHORT_DIGEST = 10


@dataclass(frozen=True)
class Artifact:
    """A file or folder that DVC stores. stage: address of the stage that wrote it."""

    path: str
    md5: str
    size_bytes: int
    stage: str

    @property
    def short_md5(self) -> str:
        """The start of the digest, enough for a person to tell two versions apart."""
        return self.md5[:_SHORT_DIGEST]


def read_metrics(workspace: Workspace, path: Path) -> dict[str, float]:
    """The numbers of a metrics.json, except the iteration's number."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in values.items() if name != "iteration"}
    except (AttributeError, TypeError, ValueError) as error:
        raise LineageError(
            f"{workspace.relative(path)}: expected one flat JSON object of numbers ({error})"
        ) from error


def read_train_curve(
    workspace: Workspace, artifact: Artifact
) -> Iterator[tuple[int, dict[str, float]]]:
    """The steps of `train_curve.csv` with their values by column, without empty cells."""
    require_unchanged(workspace, artifact)
    with (workspace.root / artifact.path).open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                step = int(float(row.pop("step")))
                yield step, {name: float(value) for name, value in row.items() if value}
            except (KeyError, TypeError, ValueError) as error:
                raise LineageError(
                    f"{artifact.path}, line {line}: expected numbers below a header with `step`, "
                    f"found {row}. Write it anew with `dvc repro --force {artifact.stage}`."
                ) from error


def read_stage_seconds(workspace: Workspace, iteration: int) -> dict[str, float]:
    """Seconds by stage, for those that ran in this workspace; empty for an iteration that came from
    a cache or a remote."""
    path = workspace.timings_file(iteration)
    if not path.exists():
        return {}
    try:
        return {str(name): float(value) for name, value in json.loads(path.read_text()).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise LineageError(
            f"{path}: expected a JSON object of seconds by stage; delete the file, it is only "
            "a note of how long the stages took"
        ) from error


def require_unchanged(workspace: Workspace, artifact: Artifact) -> None:
    """Raise `LineageError` unless the small file on disk is the one DVC recorded."""
    found = content_md5(workspace.root / artifact.path) or "nothing"
    if found != artifact.md5:
        raise LineageError(
            f"{artifact.path} is not what {artifact.stage} wrote (expected md5 {artifact.md5}, "
            f"found {found}). Bring it back with `dvc checkout {artifact.path}` (or `dvc pull "
            f"{artifact.path}`), or make it anew with `dvc repro {artifact.stage}`."
        )
