"""The code that each stage of an iteration is made with: which components, which files, frozen how.

DVC knows a user's own code by a folder of links that the stage depends on (`source_code.links`).
Our own is known by digests, frozen with the iteration: an edit here makes no history stale, but it
is said, and no stage is made with other code than it was frozen with.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from distil_core.campaign.listing import listed_dependency
from distil_core.campaign.load import load_iteration_params
from distil_core.component_kinds import registry_of
from distil_core.config.models import IterationParams, Params, StageVersion
from distil_core.errors import ConfigError
from distil_core.files import write_text
from distil_core.pipeline import Stage, stage_named, stages_of
from distil_core.source_code import (
    BUILT_IN_FILE,
    ComponentCode,
    code_of,
    folder_for,
    require_as_loaded,
)
from distil_core.workspace import Workspace
from distil_core.yaml_text import dump_yaml, parse_yaml


def stage_components(stage: Stage, params: Params) -> list[ComponentCode]:
    """The code of every component that the stage uses, each once, nested ones included.

    Raises `ConfigError` for a component that is not there or whose options are wrong.
    """
    found: dict[tuple[str, str], ComponentCode] = {}
    for use in stage.uses:
        for component in use.find(params):
            found[use.kind, component.name] = _code(use.kind, component.name)
            options = registry_of(use.kind).options(component.name, component.options)
            for kind, name in options.components_used:
                found[kind, name] = _code(kind, name)
    return list(found.values())


def our_digests(stage: Stage, params: Params) -> tuple[str, ...]:
    """Digests of the built-in code of the stage's components, as `StageVersion.code`."""
    digests = {_label(code): code.our_digest for code in stage_components(stage, params)}
    return tuple(f"{digests[label]} {label}" for label in sorted(digests) if digests[label])


def _label(code: ComponentCode) -> str:
    return f"{code.component.kind} {code.component.name}"


def with_code(params: IterationParams) -> IterationParams:
    """The settings with the digests that each stage's built-in code has now."""
    versions = {
        name: StageVersion(version=_number(version), code=our_digests(stage_named(name), params))
        for name, version in params.stage_versions.items()
    }
    return params.model_copy(update={"stage_versions": versions})


def _number(version: int | StageVersion) -> int:
    return version.version if isinstance(version, StageVersion) else version


def code_dependencies(stages: Iterable[Stage], params: Params) -> dict[str, str]:
    """What dvc.yaml has these stages depend on for their users' components, from the root."""
    return {
        stage.name: folder_for(
            code.component.module_name
            for code in stage_components(stage, params)
            if not code.component.is_built_in
        )
        for stage in stages
    }


def all_digests(stage: Stage, params: Params) -> dict[str, str]:
    """Of all code of the stage's components, the user's too, by 'kind name': what a state that is
    taken up again must have been made with."""
    return {_label(code): code.digest for code in stage_components(stage, params)}


def code_changes(stage: Stage, params: IterationParams, version: int) -> list[str]:
    """What of the stage's code is not as these settings were frozen with: its own version, and
    built-in components with their files. Nothing where they were frozen without digests, before
    there were any."""
    frozen = params.stage_versions.get(stage.name)
    if not isinstance(frozen, StageVersion):
        return []
    own = f"the stage's own code (version {frozen.version}, now {version})"
    return [
        *([own] if frozen.version != version else []),
        *_changed_components(stage, params, frozen.code),
    ]


def other_code(
    workspace: Workspace, iterations: Iterable[int], versions: Mapping[str, int]
) -> list[str]:
    """A line for each stage whose code is not what these iterations were frozen with, to be said
    beside "unchanged". versions: of the stages' own code now, by name."""
    found: dict[tuple[str, str], list[int]] = {}
    for iteration in iterations:
        # Settings or a component that cannot be had are not compared; whoever has to run the stage
        # reports why it cannot.
        try:
            params = load_iteration_params(workspace, iteration, with_components=False)
        except ConfigError:
            continue
        for stage in stages_of(iteration):
            if stage.name not in versions:
                continue
            try:
                changed = code_changes(stage, params, versions[stage.name])
            except ConfigError:
                continue
            if changed:
                found.setdefault((stage.name, "; ".join(changed)), []).append(iteration)
    return [
        f"{name} of iteration {', '.join(map(str, numbers))} was made with other code than there "
        f"is now: {changed}. It stays as it is, and its snapshot has that code; `distil restart` "
        "makes it anew"
        for (name, changed), numbers in found.items()
    ]


def require_frozen_code(
    workspace: Workspace, stage: Stage, params: IterationParams, version: int
) -> None:
    """Raise `ConfigError` where the stage would be made with other code than it was frozen with, or
    than this process has loaded, and recorded as if it had not."""
    address = stage.address(params.iteration)
    changed = code_changes(stage, params, version)
    if changed:
        raise ConfigError(
            f"{address} has to run, but its code is not what "
            f"{workspace.relative(workspace.frozen_params_file(params.iteration))} was frozen with "
            f"(stage_versions.{stage.name}): {'; '.join(changed)}. `distil restart` freezes the "
            "campaign with the code of now, and what it changes is made anew; or go back to the "
            "code that it was made with (its snapshot has it, `git log refs/distil`)"
        )
    for code in stage_components(stage, params):
        require_as_loaded(code)
    found = code_dependencies([stage], params)[stage.name]
    if found == BUILT_IN_FILE:
        return
    listed = listed_dependency(workspace, stage, params.iteration)
    if listed != found:
        raise ConfigError(
            f"{address} was frozen with the code in {listed}, but its settings name {found} now: "
            "has an entry point moved to another module? `distil restart` takes the new one"
        )


def adopt_code(workspace: Workspace, stage: Stage, iteration: int, version: int) -> None:
    """Freeze a stage that never ran anew with the code of now: no history depends on it yet."""
    params = load_iteration_params(workspace, iteration, with_components=False)
    if not code_changes(stage, params, version):
        return
    path = workspace.frozen_params_file(iteration)
    values = parse_yaml(path.read_text(encoding="utf-8"))
    adopted = StageVersion(version=version, code=our_digests(stage, params))
    values["stage_versions"][stage.name] = adopted.model_dump(mode="json")
    write_text(path, dump_yaml(values))


def _changed_components(stage: Stage, params: Params, frozen: Sequence[str]) -> Iterator[str]:
    for code in stage_components(stage, params):
        if code.our_digest and f"{code.our_digest} {_label(code)}" not in frozen:
            files = ", ".join(sorted(_shown(module) for module in code.ours))
            yield f"{_label(code)} ({files})"


def _shown(module: str) -> str:
    return module.removeprefix("distil_core.")


def _code(kind: str, name: str) -> ComponentCode:
    registry = registry_of(kind)
    return code_of(registry.resolve(name), registry.place.package)
