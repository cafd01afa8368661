"""The files a record is made from: settings, metrics, the training curve, timings."""

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from distil_core.errors import LineageError
from distil_core.workspace import Workspace

_SHORT_DIGEST = 10


@dataclass(frozen=True)
class Artifact:
    """A file or folder that DVC keeps. stage: address of the stage that wrote it."""

    path: str
    md5: str
    size_bytes: int
    stage: str

    @property
    def short_md5(self) -> str:
        """Enough of the digest for a person to tell two versions apart."""
        return self.md5[:_SHORT_DIGEST]


def read_frozen(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Settings of an iteration, as its frozen file has them; the caller does not change them."""
    from ruamel.yaml.error import YAMLError

    name = workspace.relative(path)
    try:
        # As written, not validated anew: an old iteration must stay recordable after a
        # setting was added or a component changed its options.
        values = _parse(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, YAMLError) as error:
        raise LineageError(
            f"{name}: cannot read the settings of this iteration ({error}); restore the file "
            f"with `git checkout {name}`"
        ) from error
    if not isinstance(values, dict) or "campaign" not in values:
        raise LineageError(
            f"{name}: expected a mapping of settings with `campaign`, found {values!r:.80}; "
            f"restore the file with `git checkout {name}`"
        )
    return values


@lru_cache(maxsize=1024)
def _parse(text: str) -> Any:
    """Once in a process: each record reads the settings of all iterations before it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text)


def read_metrics(workspace: Workspace, path: Path) -> dict[str, float]:
    """The numbers of a metrics.json, all but the iteration itself."""
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
    """Steps of `train_curve.csv` with their values by column, empty cells left out."""
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
    """Seconds by stage, of those that ran in this workspace; none for an iteration that came
    from a cache or a remote."""
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


def content_md5(path: Path) -> str | None:
    """The digest DVC gives a file or folder; None where nothing is."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listing = [
            {"md5": content_md5(file), "relpath": file.relative_to(path).as_posix()}
            for file in files
        ]
        listing.sort(key=lambda entry: str(entry["relpath"]))
        text = json.dumps(listing, sort_keys=True)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys; what is neither text nor a mapping becomes JSON."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and all(_is_plain_key(k) for k in value):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return flat


def _is_plain_key(key: object) -> bool:
    return isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]+", key) is not None


def lookup(settings: Any, dotted_key: str) -> Any:
    """The value of a dotted key, None where there is none."""
    for part in dotted_key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings
