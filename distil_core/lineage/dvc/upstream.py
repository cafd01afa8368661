"""Whether the stages that a stage builds on are up to date, from `dvc.yaml` and `dvc.lock` alone.

Asking DVC about every ancestor would read the campaign's whole history again at each stage (5 ms a
stage). A stage is stale here by DVC's rules: its command, its paths, its settings or the digests of
its inputs differ from the recorded ones. Files on disk are examined only for the dependencies of
the stage about to run (`require_recorded`).

A stage that the user added to `dvc.yaml` may have features that our stages never use: a whole file
of settings, a folder of its own, a web address. DVC itself is asked about such a stage.
"""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distil_core.campaign.differences import ABSENT, Change, changes, described
from distil_core.errors import LineageError
from distil_core.lineage.dvc import _internals
from distil_core.lineage.dvc.digest import content_md5
from distil_core.lineage.dvc.lock import Entry, LockedArtifact, artifacts
from distil_core.source_code import linked_modules

if TYPE_CHECKING:
    from distil_core.lineage.dvc._internals import PipelineStage


@dataclass(frozen=True)
class Definition:
    """A stage as defined in `dvc.yaml`, with paths from the workspace's root. settings: the keys
    read, by file. folder: where it runs. is_plain: whether this covers the definition, so that DVC
    need not be asked."""

    command: str | list[str]
    dependencies: frozenset[str]
    outputs: frozenset[str]
    settings: Mapping[str, list[str]]
    folder: str = "."
    is_plain: bool = True


@dataclass(frozen=True)
class Pipeline:
    """All stages as defined and as recorded. producers: the address of the producing stage, by
    output path. load: DVC's own object of a stage."""

    root: Path
    definitions: Mapping[str, Definition]
    entries: Mapping[str, Entry]
    producers: Mapping[str, str]
    load: "Callable[[str], PipelineStage]"
    code: dict[str, str | None] = field(default_factory=dict)

    def ancestors(self, address: str) -> list[str]:
        """Every stage that `address` builds on, in an order in which they can run."""
        order: list[str] = []
        seen: set[str] = set()
        # An explicit stack, as a chain of some hundred iterations exceeds Python's recursion limit.
        pending = [(address, False)]
        while pending:
            stage, upstream_done = pending.pop()
            if upstream_done:
                order.append(stage)
            elif stage not in seen:
                seen.add(stage)
                pending.append((stage, True))
                dependencies = sorted(self.definitions[stage].dependencies, reverse=True)
                pending += [
                    (self.producers[path], False) for path in dependencies if path in self.producers
                ]
        return order[:-1]

    def stale_ancestor(self, address: str) -> tuple[str, str] | None:
        """The first stage that must run before `address`, and why; None where everything is
        recorded."""
        for ancestor in self.ancestors(address):
            reason = self.stale_reason(ancestor)
            if reason:
                return ancestor, reason
        return None

    def stale_reason(self, address: str) -> str | None:
        """Why the stage's recorded outputs do not belong to its present definition; None where they
        do."""
        entry = self.entries.get(address)
        if entry is None:
            return "it never ran"
        definition = self.definitions[address]
        if not definition.is_plain:
            return _stale_reason_by_dvc(self.load(address))
        dependencies, outputs = artifacts(entry, "deps"), artifacts(entry, "outs")
        recorded = (entry["cmd"], frozenset(dependencies), frozenset(outputs))
        if recorded != (definition.command, definition.dependencies, definition.outputs):
            return "its command or paths in dvc.yaml changed"
        for path, keys in definition.settings.items():
            changed = self._changed_settings(path, keys, entry.get("params", {}).get(path, {}))
            if changed:
                return f"settings in {path} changed ({described(changed)})"
        return self._stale_dependency(dependencies)

    def _stale_dependency(self, dependencies: Mapping[str, LockedArtifact]) -> str | None:
        for path, dependency in dependencies.items():
            if dependency.md5 != self.recorded_md5(path, dependency.md5):
                return f"it read another {path} than {self.producers[path]} wrote last"
            if linked_modules(path) and dependency.md5 != self._code_md5(path):
                return f"the code of {', '.join(linked_modules(path))} changed"
        return None

    def recorded_md5(self, path: str, default: str | None = None) -> str | None:
        """The digest that the stage which makes `path` recorded for it."""
        if path not in self.producers:
            return default
        producer = self.producers[path]
        as_recorded = posixpath.relpath(path, self.definitions[producer].folder)
        output = artifacts(self.entries.get(producer, {}), "outs").get(as_recorded)
        return output.md5 if output else None

    def _code_md5(self, path: str) -> str | None:
        """Of a user's code as it is now: many stages depend on the same."""
        if path not in self.code:
            self.code[path] = content_md5(self.root / path)
        return self.code[path]

    def _changed_settings(self, path: str, keys: list[str], recorded: Entry) -> list[Change]:
        present = _read_settings(self.root / path)
        return [
            change
            for key in keys
            for change in changes(recorded.get(key, ABSENT), _lookup(present, key), key)
        ]


def load_pipeline(stage: "PipelineStage") -> Pipeline:
    """Every stage of the `dvc.yaml` that defines `stage`."""
    root = Path(stage.repo.root_dir)
    definitions, producers = _definitions(_texts(root, stage), stage)
    entries = _internals.recorded_entries(stage)
    load = partial(_internals.stage_beside, stage)
    return Pipeline(root, definitions, entries, producers, load)


def _stale_reason_by_dvc(stage: "PipelineStage") -> str | None:
    """Like `stale_reason`, for a stage with features beyond ours. Inputs stored elsewhere (the web,
    a bucket) are not examined here, and a stage is not stale for DVC running it each time: only
    `dvc repro` can tell."""
    if _internals.is_frozen(stage):
        return None
    if _internals.is_command_changed(stage):
        return "its command in dvc.yaml changed"
    items = (*_internals.dependencies(stage), *_internals.outputs(stage))
    changed = [item.path for item in items if item.changed_here()]
    return f"{', '.join(changed)} changed since it ran" if changed else None


_resolved: dict[tuple[str, ...], tuple[dict[str, Definition], dict[str, str]]] = {}
"""The last pipeline resolved, by the text it was made from: it is the same at every stage."""


def _definitions(
    texts: tuple[str, ...], stage: "PipelineStage"
) -> tuple[dict[str, Definition], dict[str, str]]:
    if texts not in _resolved:
        definitions = {
            address: _definition(resolved)
            for address, resolved in _internals.resolved_stages(stage).items()
        }
        producers = {
            path: address
            for address, definition in definitions.items()
            for path in definition.outputs
        }
        _resolved.clear()
        _resolved[texts] = definitions, producers
    return _resolved[texts]


def _texts(root: Path, stage: "PipelineStage") -> tuple[str, ...]:
    """Of `dvc.yaml` and the files that its `vars` name."""
    named = [name.partition(":")[0] for name in _internals.files_of_variables(stage)]
    files = [root / "dvc.yaml", *(root / name for name in named)]
    return tuple(file.read_text(encoding="utf-8") for file in files)


def require_upstream(pipeline: Pipeline, address: str) -> None:
    """Raise `LineageError` when an ancestor is stale, naming the stage to run first."""
    stale = pipeline.stale_ancestor(address)
    if stale:
        first, reason = stale
        raise LineageError(
            f"{address} builds on {first}, which is not up to date: {reason}. Run {first} "
            f"first, or let `dvc repro {address}` run all that is needed."
        )


def require_recorded(pipeline: Pipeline, stage: "PipelineStage") -> None:
    """Raise `LineageError` unless every dependency on disk is what its own stage recorded."""
    for dependency in _internals.dependencies(stage):
        path = dependency.path
        producer = pipeline.producers.get(path)
        if producer is None:
            if not dependency.exists:
                modules = linked_modules(path)
                remedy = f"put {', '.join(modules)} back" if modules else f"`git checkout {path}`"
                raise LineageError(f"{stage.name} needs {path}, which is missing: {remedy}")
            continue
        remedy = f"bring it back with `dvc checkout {path}` (or `dvc pull {path}`)"
        if not dependency.exists:
            raise LineageError(
                f"{stage.name} needs {path}, which is missing: {remedy}, or run {producer}"
            )
        found = dependency.digest()
        expected = pipeline.recorded_md5(path)
        if found != expected:
            raise LineageError(
                f"{stage.name} needs {path} as {producer} recorded it (md5 {expected}), but on "
                f"disk is another (md5 {found}): {remedy}, or run {producer} again"
            )


def require_outputs(stage: "PipelineStage") -> None:
    """Raise `LineageError` unless the stage's body wrote every output listed in `dvc.yaml`."""
    missing = [output.path for output in _internals.outputs(stage) if not output.exists]
    if missing:
        raise LineageError(
            f"{stage.name} ended without writing {', '.join(missing)}; nothing was recorded. "
            "This is a fault in the stage's code."
        )


def _definition(resolved: dict[str, Any]) -> Definition:
    folder = posixpath.normpath(resolved.get("wdir", "."))
    settings: dict[str, list[str]] = {}
    for item in resolved.get("params", []):
        keys_by_file = {"params.yaml": [item]} if isinstance(item, str) else item
        for path, keys in keys_by_file.items():
            settings.setdefault(posixpath.join(folder, path), []).extend(keys or [])
    dependencies = _paths(folder, resolved.get("deps", []))
    is_plain = (
        folder == "."
        and not any(_lies_elsewhere(path) for path in dependencies)
        and all(keys and _is_yaml(path) for path, keys in settings.items())
        and not resolved.keys() & {"frozen", "always_changed"}
    )
    return Definition(
        command=resolved["cmd"],
        dependencies=frozenset(dependencies),
        outputs=frozenset(
            path
            for kind in ("outs", "metrics", "plots")
            for path in _paths(folder, resolved.get(kind, []))
        ),
        settings={posixpath.normpath(path): keys for path, keys in settings.items()},
        folder=folder,
        is_plain=is_plain,
    )


def _paths(folder: str, items: list[Any]) -> list[str]:
    named = [item if isinstance(item, str) else next(iter(item)) for item in items]
    return [
        path if _lies_elsewhere(path) else posixpath.normpath(posixpath.join(folder, path))
        for path in named
    ]


def _lies_elsewhere(path: str) -> bool:
    return "://" in path


def _is_yaml(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() not in (".toml", ".json", ".py")


def _read_settings(path: Path) -> Any:
    try:
        return _parse(path.read_text(encoding="utf-8"), path.name)
    except FileNotFoundError as error:
        raise LineageError(
            f"no {path}: iterations.yaml names it; restore it with `git checkout {path.name}`"
        ) from error


@lru_cache(maxsize=1024)
def _parse(text: str, name: str) -> Any:
    return _internals.parse_yaml(text, name)


def _lookup(settings: Any, dotted_key: str) -> Any:
    for part in dotted_key.split("."):
        if not isinstance(settings, dict) or part not in settings:
            return ABSENT
        settings = settings[part]
    return settings
