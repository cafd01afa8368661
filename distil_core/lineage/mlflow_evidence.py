"""What there is to record of an iteration, read from the workspace and checked against `dvc.lock`.

Nothing here knows MLflow. What is read must be what DVC recorded: a record that mixes two runs of
a stage would be worse than none.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distil_core.errors import LineageError
from distil_core.lineage.dvc_lock import (
    Entry,
    artifacts,
    lock_digest,
    read_entries,
    stage_addresses,
)
from distil_core.workspace import Workspace

SHORT_DIGEST = 10
_POLICY_PATH = re.compile(r"data/(?:policy-(\d{3})|iterations/(\d{3})/policy)")


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
        return self.md5[:SHORT_DIGEST]


@dataclass(frozen=True)
class Evidence:
    """One finished iteration. artifacts: by role, those it read from the problems and those it
    wrote. settings: dotted key to JSON or text. expert: iteration of the policy that served as
    expert, None where the expert is none of ours. finished_at_ms: since the epoch."""

    campaign: str
    iteration: int
    artifacts: Mapping[str, Artifact]
    settings: Mapping[str, str]
    expert: int | None
    metrics: Mapping[str, float]
    finished_at_ms: int

    @property
    def policy(self) -> Artifact:
        """The policy this iteration ended with."""
        return self.artifacts["policy"]


class History:
    """The recorded iterations of a workspace, each read once."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self._evidence: dict[int, Evidence] = {}
        self._digests: dict[int, str] = {}

    def __getitem__(self, iteration: int) -> Evidence:
        """The iteration's evidence; `LineageError` says which stage to run or file to fetch."""
        if iteration not in self._evidence:
            self._evidence[iteration] = self._read(iteration)
        return self._evidence[iteration]

    def digest(self, iteration: int) -> str:
        """The iteration's lock digest: what it and all before it were made from."""
        if iteration not in self._digests:
            self._digests[iteration] = lock_digest(self.workspace, iteration)
        return self._digests[iteration]

    def require_finished(self, iteration: int) -> None:
        """Raise `LineageError` naming the stage to run when the iteration or one before it is
        not in `dvc.lock` as a whole."""
        for before in range(iteration + 1):
            for address in stage_addresses(before):
                if address not in self._entries:
                    raise LineageError(
                        f"iteration {before} is not finished: dvc.lock has no {address}. Run it "
                        f"with `dvc repro {stage_addresses(iteration)[-1]}`, then record again."
                    )

    def last_finished(self) -> int | None:
        """The last iteration whose stages, and those of all before it, are in `dvc.lock`."""
        last = None
        for iteration in range(1000):
            if not all(address in self._entries for address in stage_addresses(iteration)):
                break
            last = iteration
        return last

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return read_entries(self.workspace)

    @cached_property
    def _written(self) -> dict[str, Artifact]:
        return {
            path: Artifact(path, locked.md5, locked.size_bytes, address)
            for address, entry in self._entries.items()
            for path, locked in artifacts(entry, "outs").items()
        }

    def _read(self, iteration: int) -> Evidence:
        workspace = self.workspace
        frozen_file = workspace.frozen_params_file(iteration)
        frozen = _read_frozen(workspace, frozen_file)
        for address in stage_addresses(iteration):
            self._require_consistent(address, workspace.relative(frozen_file), frozen)
        by_role = {role: self._artifact(path) for role, path in _roles(workspace, iteration)}
        metrics_file = workspace.metrics_file(iteration)
        require_unchanged(workspace, by_role["metrics"])
        return Evidence(
            campaign=str(frozen["campaign"]),
            iteration=iteration,
            artifacts=by_role,
            settings=flatten(frozen),
            expert=self._expert(iteration),
            metrics=_read_metrics(workspace, metrics_file),
            finished_at_ms=int(metrics_file.stat().st_mtime * 1000),
        )

    def _artifact(self, path: Path) -> Artifact:
        relative = self.workspace.relative(path)
        if relative not in self._written:
            raise LineageError(
                f"dvc.lock names no {relative} among the outputs of any stage; does dvc.yaml "
                "list it? Correct dvc.yaml, then `dvc repro`."
            )
        return self._written[relative]

    def _expert(self, iteration: int) -> int | None:
        if iteration == 0:
            return None
        address = stage_addresses(iteration)[2]
        for path in artifacts(self._entries[address], "deps"):
            match = _POLICY_PATH.fullmatch(path)
            if match:
                return int(match[1] or match[2])
        return None

    def _require_consistent(self, address: str, frozen_name: str, frozen: Any) -> None:
        """The stage ran with the settings of the frozen file, on what its sources last wrote."""
        entry = self._entries[address]
        remedy = f"Bring it up to date with `dvc repro {address}`"
        for key, recorded in entry.get("params", {}).get(frozen_name, {}).items():
            if _lookup(frozen, key) != recorded:
                raise LineageError(
                    f"{address} ran with {key} = {recorded!r}, but {frozen_name} now says "
                    f"{_lookup(frozen, key)!r}. {remedy}, or restore the file with "
                    f"`git checkout {frozen_name}`."
                )
        for path, read in artifacts(entry, "deps").items():
            written = self._written.get(path)
            if written and written.md5 != read.md5:
                raise LineageError(
                    f"{address} read another {path} (md5 {read.md5}) than {written.stage} wrote "
                    f"last (md5 {written.md5}). {remedy}."
                )


def read_train_curve(
    workspace: Workspace, artifact: Artifact
) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps of `train_curve.csv` with their values by column, empty cells left out."""
    import csv

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
    path = workspace.root / artifact.path
    found = (
        hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if (path.is_file())
        else "missing"
    )
    if found != artifact.md5:
        raise LineageError(
            f"{artifact.path} is not what {artifact.stage} wrote (expected md5 {artifact.md5}, "
            f"found {found}). Bring it back with `dvc checkout {artifact.path}` (or `dvc pull "
            f"{artifact.path}`), or make it anew with `dvc repro {artifact.stage}`."
        )


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


def _roles(workspace: Workspace, iteration: int) -> list[tuple[str, Path]]:
    problems = workspace.problems_dir
    written = [
        ("policy", workspace.policy_dir(iteration)),
        ("metrics", workspace.metrics_file(iteration)),
        ("evaluation", workspace.evaluation_file(iteration)),
    ]
    if iteration == 0:
        read = [("warm_start", problems / "warm_start.parquet")]
    else:
        read = [("train_problems", problems / "train.parquet")]
        written = [
            ("rollouts", workspace.rollouts_file(iteration)),
            ("consultations", workspace.consultations_file(iteration)),
            ("feedback", workspace.feedback_dir(iteration)),
            ("train_curve", workspace.train_curve_file(iteration)),
            *written,
        ]
    return [*read, ("eval_problems", problems / "eval.parquet"), *written]


def _read_frozen(workspace: Workspace, path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    name = workspace.relative(path)
    try:
        # As written, not validated anew: an old iteration must stay recordable after a
        # setting was added or a component changed its options.
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
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


def _read_metrics(workspace: Workspace, path: Path) -> dict[str, float]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in values.items() if name != "iteration"}
    except (AttributeError, TypeError, ValueError) as error:
        raise LineageError(
            f"{workspace.relative(path)}: expected one flat JSON object of numbers ({error})"
        ) from error


def _lookup(settings: Any, dotted_key: str) -> Any:
    for part in dotted_key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings
