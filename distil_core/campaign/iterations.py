"""Add iterations to a campaign: freeze the settings, then name the iteration in the chain.

`iterations/NNN.yaml` has all settings that an iteration was frozen with, so that editing
`params.yaml` for the next one does not change history. `iterations.yaml` is the list from which
`dvc.yaml` makes its stages. An iteration exists once `iterations.yaml` names it. Its settings are
written before that, so a crash in between leaves at most a file that nothing refers to.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distil_core.campaign.chain import (
    expert_dependency,
    parent_iteration,
    require_history,
)
from distil_core.campaign.differences import Change, changes, described
from distil_core.campaign.listing import (
    EVALUATED,
    ONCE,
    TRAINED,
    Listing,
    empty_listing,
    read_listing,
    refresh_links,
    write_listing,
)
from distil_core.campaign.load import load_iteration_params, parse_iteration_params
from distil_core.campaign.params_file import prepare, replace, replaced_params_file
from distil_core.campaign.schedules import scheduled_options
from distil_core.campaign.stage_code import code_dependencies, with_code
from distil_core.config.models import SCHEMA_VERSION, IterationParams, Params
from distil_core.errors import ConfigError
from distil_core.files import write_text
from distil_core.pipeline import CURVES, SCORES
from distil_core.workspace import Workspace, iteration_key
from distil_core.yaml_text import dump_yaml, parse_yaml

__all__ = ["existing_iterations", "extend", "replaced_params_file", "restart"]

Examine = Callable[[Workspace, Params], None]
"""Raises `ConfigError` for settings that cannot work where they are frozen."""

MAX_ITERATION = 999
_FIXED_SECTIONS = ("campaign", "problems", "base")
"""Made once for the whole campaign, by stages that read the settings of iteration 0."""

_COMPARED = (
    "evaluate.temperature",
    "evaluate.top_p",
    "evaluate.max_new_tokens",
    "context.student_template",
    "context.chat",
    "context.bos",
    "context.chat_date",
    "context.chat_template_kwargs",
    "context.environment",
    "consult.verifier",
)
"""What a policy's scores depend on besides the policy: the same in all that a gate compares."""

_SHORTENING = ("context.max_context_tokens", "context.shorten", "context.shortening_marker")
"""Likewise, where a rule shortens what the student reads: the prompt."""

_HISTORY = ("context.strip_thinking",)
"""Likewise, where it changes the earlier turns that the student reads."""


def existing_iterations(workspace: Workspace) -> list[int]:
    """All iterations of the campaign, starting from 0 (the base policy); empty before `restart`.

    Raises `ConfigError` when `iterations.yaml` was damaged by hand.
    """
    return list(range(len(read_listing(workspace)["evaluations"])))


def restart(
    workspace: Workspace,
    stage_versions: Mapping[str, int],
    params_file: Path | None = None,
    overrides: Sequence[str] = (),
    examine: Examine | None = None,
) -> list[int]:
    """Freeze `params.yaml` afresh as iterations 0 .. num_iterations, and return them.

    Stages whose settings turn out the same stay up to date. `stage_versions` are those of the
    stages' code now. params_file: takes the place of `params.yaml` first, as a preset does.
    overrides: settings such as `train.learning_rate=1e-5`, which are written into it. The former
    one is kept (`replaced_params_file`). examine: looks at what the settings name, before anything
    is changed. Raises `ConfigError`, with nothing changed, when the settings cannot work.
    """
    params, content = prepare(workspace, params_file, overrides)
    if examine is not None:
        examine(workspace, params)
    _require_numbers(params.num_iterations)
    iterations = list(range(params.num_iterations + 1))
    chain = [_freeze(params, iteration, stage_versions) for iteration in iterations]
    listing = _list(workspace, chain, empty_listing())
    if content is not None:
        replace(workspace, content)
    # Until the last file is written there is no campaign, so that two are never mixed.
    write_listing(workspace, empty_listing())
    for frozen in chain:
        _write_frozen(workspace, frozen)
    write_listing(workspace, listing)
    refresh_links(workspace)
    for path in workspace.frozen_params_file(0).parent.glob("[0-9][0-9][0-9].yaml"):
        if int(path.stem) not in iterations:
            path.unlink()
    return iterations


def extend(
    workspace: Workspace,
    stage_versions: Mapping[str, int],
    count: int = 1,
    overrides: Sequence[str] = (),
    examine: Examine | None = None,
) -> list[int]:
    """Add `count` iterations with the settings `params.yaml` has now, and return them.

    overrides: settings such as `train.learning_rate=1e-5`, which are written into it first.
    examine: as in `restart`. Earlier iterations keep their settings and stay up to date. Raises
    `ConfigError`, with nothing changed, when there is nothing to extend, `params.yaml` cannot work,
    or it changes what all iterations share, or what makes their evaluations comparable.
    """
    if count < 1:
        raise ConfigError(f"the number of iterations to add must be at least 1, found {count}")
    listing = read_listing(workspace)
    first_added = len(listing["evaluations"])
    if not first_added:
        raise ConfigError(
            "the campaign has no iterations yet, so there is nothing to extend: "
            "`distil restart` freezes params.yaml as its first ones"
        )
    params, content = prepare(workspace, None, overrides)
    # Earlier ones are only read: their components' options may be of another version.
    first, last = (
        load_iteration_params(workspace, number, with_components=False)
        for number in (0, first_added - 1)
    )
    _require_same_campaign(params, first)
    _require_comparable(params, last)
    _require_known_scores(params, _num_samples(workspace, range(first_added)))
    if examine is not None:
        examine(workspace, params)
    added = list(range(first_added, first_added + count))
    _require_numbers(added[-1])
    earlier = [
        load_iteration_params(workspace, iteration, with_components=False).sample.num_prompts
        for iteration in range(1, first_added)
    ]
    chain = [_freeze(params, iteration, stage_versions, earlier) for iteration in added]
    listing = _list(workspace, chain, listing)
    if content is not None:
        replace(workspace, content)
    for frozen in chain:
        _write_frozen(workspace, frozen)
    write_listing(workspace, listing)
    refresh_links(workspace)
    return added


def _freeze(
    params: Params,
    iteration: int,
    stage_versions: Mapping[str, int],
    earlier_num_prompts: Sequence[int] = (),
) -> IterationParams:
    """earlier_num_prompts: of the first iterations; those after them are frozen from `params`."""
    if params.sample.earlier_num_prompts is not None:
        raise ConfigError(
            "params.yaml: sample.earlier_num_prompts is written into iterations/ by "
            "`distil extend`: leave it out"
        )
    values = params.model_dump(mode="json")
    values["train"]["objective"]["options"] |= scheduled_options(params.train.objective, iteration)
    num_prompts = params.sample.num_prompts
    if any(number != num_prompts for number in earlier_num_prompts):
        rest = [num_prompts] * (iteration - 1 - len(earlier_num_prompts))
        values["sample"]["earlier_num_prompts"] = [*earlier_num_prompts, *rest]
    values |= {
        "iteration": iteration,
        "stage_versions": dict(sorted(stage_versions.items())),
        "schema_version": SCHEMA_VERSION,
    }
    frozen = parse_iteration_params(values, f"iterations/{iteration_key(iteration)}.yaml")
    return with_code(frozen)


def _write_frozen(workspace: Workspace, params: IterationParams) -> None:
    path = workspace.frozen_params_file(params.iteration)
    write_text(path, dump_yaml(params.model_dump(mode="json")))


def _list(workspace: Workspace, chain: list[IterationParams], listing: Listing) -> Listing:
    """`listing` with the iterations of `chain` added."""

    relative = workspace.relative
    new = {params.iteration: params for params in chain}

    def frozen_params(iteration: int) -> IterationParams:
        return new.get(iteration) or load_iteration_params(workspace, iteration, False)

    listed = {section: dict(entries) for section, entries in listing.items()}
    for params in chain:
        number = params.iteration
        key = iteration_key(number)
        frozen = relative(workspace.frozen_params_file(number))
        policy = relative(workspace.policy_dir(number))
        expert = expert_dependency(workspace, number, params.tabulate.expert)
        if number == 0:
            listed["code"] = code_dependencies(ONCE, params)
        listed["evaluations"][key] = {
            "params": frozen,
            "policy": policy,
            "expert_policy": expert,
            "code": code_dependencies(EVALUATED, params),
        }
        scores_file = relative(workspace.pass_at_k_file(number))
        listed["curves"][SCORES.y] = listed["curves"].get(SCORES.y, {}) | {scores_file: SCORES.y}
        if number == 0:
            continue
        require_history(params, frozen_params)
        parent = parent_iteration(number)
        listed["iterations"][key] = {
            "params": frozen,
            "parent_policy": relative(workspace.parent_dir(number)),
            "parent_evaluation": relative(workspace.handover_evaluation_file(parent)),
            "champion_evaluation": relative(workspace.champion_evaluation_file(parent)),
            "expert_policy": expert,
            "policy": policy,
            "code": code_dependencies(TRAINED, params),
        }
        for column in CURVES:
            curve_file = relative(workspace.train_curve_file(number))
            listed["curves"][column] = listed["curves"].get(column, {}) | {curve_file: column}
    return listed


def _require_same_campaign(params: Params, first: IterationParams) -> None:
    differing = _changes(params, first, _FIXED_SECTIONS)
    if differing:
        sections = dict.fromkeys(change.path.partition(".")[0] for change in differing)
        raise ConfigError(
            f"params.yaml: {', '.join(sections)} differ from iterations/000.yaml, with which this "
            f"campaign started ({described(differing)}); a further iteration cannot change them. "
            "Revert them in params.yaml, or start over with `distil restart`."
        )


def _require_comparable(params: Params, last: IterationParams) -> None:
    """The gate compares evaluations of the new policy and of an earlier one: made alike."""
    shortens = any(
        rule.field == "prompt" for each in (params, last) for rule in each.context.shorten
    )
    strips = {"history" in each.context.strip_thinking for each in (params, last)}
    paths = _COMPARED + (_SHORTENING if shortens else ())
    differing = _changes(params, last, paths + (_HISTORY if len(strips) > 1 else ()))
    if differing:
        raise ConfigError(
            f"params.yaml: {described(differing)} differ from iteration {last.iteration}. The gate "
            "compares a new policy with earlier evaluations, which would be of another sampler, "
            "prompt or judge. Revert them in params.yaml, or start over with `distil restart`."
        )


def _require_known_scores(params: Params, earlier: Sequence[int]) -> None:
    """Each score with a margin is one that all earlier evaluations have, of so many samples."""
    now, fewest = params.evaluate.num_samples, min(earlier)
    alike = set(earlier) == {now}
    missing = [
        name
        for name in params.gate.margins
        if (not alike if name.startswith("majority") else int(name.rpartition("_")[2]) > fewest)
    ]
    if missing:
        raise ConfigError(
            f"params.yaml: gate.margins names {', '.join(missing)}, which the gate cannot compare: "
            f"earlier iterations were evaluated with {fewest} samples of each problem, a further "
            f"one would be with {now} (evaluate.num_samples). Name pass_at_k with k up to "
            f"{min(fewest, now)}, or start over with `distil restart`."
        )


def _num_samples(workspace: Workspace, iterations: Iterable[int]) -> list[int]:
    """`evaluate.num_samples` of iterations, as their frozen files have it: they may have settings
    that this version does not know."""
    files = [workspace.frozen_params_file(number) for number in iterations]
    values = [parse_yaml(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    return [int(each["evaluate"]["num_samples"]) for each in values]


def _changes(params: Params, earlier: Params, paths: Sequence[str]) -> list[Change]:
    """Settings below the dotted paths that are others in `params`."""
    found = []
    for path in paths:
        before: Any = earlier.model_dump(mode="json")
        after: Any = params.model_dump(mode="json")
        for part in path.split("."):
            # Some settings are written only where they are set.
            before, after = before.get(part, {}), after.get(part, {})
        found += changes(before, after, path)
    return found


def _require_numbers(last: int) -> None:
    if last > MAX_ITERATION:
        raise ConfigError(
            f"iterations are numbered up to {MAX_ITERATION}, this would make number {last}: "
            "begin a new campaign from the last policy (base.kind: pretrained)"
        )
