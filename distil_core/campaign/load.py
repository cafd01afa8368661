"""Read settings from YAML, and refuse what cannot work before anything runs."""

from pathlib import Path
from typing import Any, TypeVar

from distil_core.campaign.chat_template_file import with_chat_template_text
from distil_core.campaign.combinations import require_purpose
from distil_core.campaign.extends import Resolved, presets, read_mapping, read_settings
from distil_core.campaign.migrations import migrated, schema_version
from distil_core.campaign.parts import (
    hold_numbers_as_text,
    part,
    registries,
    with_typed_options,
)
from distil_core.campaign.sampler import require_scored_as_sampled
from distil_core.config.models import IterationParams, Params
from distil_core.errors import ConfigError
from distil_core.registry import refuse_secrets
from distil_core.validation import did_you_mean, validate
from distil_core.workspace import Workspace

AnyParams = TypeVar("AnyParams", bound=Params)


def load_params(workspace: Workspace) -> Params:
    """`params.yaml` with what it extends, validated; `ConfigError` names the file, the setting and
    what it may be.

    Components that lie in the workspace can be imported from then on.
    """
    workspace.make_code_importable()
    path = workspace.params_file
    return validated_params(read_settings(path, path.name), path.name)


def load_params_file(path: Path) -> Params:
    """Like `load_params`, for a file of any name."""
    return validated_params(read_settings(find_settings_file(path), str(path)), str(path))


def find_settings_file(path: Path) -> Path:
    """The settings file, or the preset of that name. Raises `ConfigError` where there is none."""
    if path.is_file():
        return path
    if str(path) in presets():
        return presets()[str(path)]
    beside = sorted(file.name for file in path.parent.glob("*.yaml"))
    found = f"; in {path.parent} there are {', '.join(beside)}" if beside else ""
    hint = did_you_mean(path.name, [*presets(), *beside])
    raise ConfigError(f"no settings file {path}{found}; presets are {', '.join(presets())}{hint}")


def validated_params(resolved: Resolved, where: str) -> Params:
    """The settings as `Params`; an error says from where a value came that is not from `where`."""
    try:
        return parse_params(resolved.values, where)
    except ConfigError as error:
        raise resolved.explained(error, where) from error


def load_iteration_params(
    workspace: Workspace, iteration: int, with_components: bool = True
) -> IterationParams:
    """The frozen settings of one iteration; `ConfigError` when it does not exist yet.

    with_components: check the options of all parts named, which `extend` and `restart` have done
    before and which imports torch. Each part checks its own again when it is built; those that
    lie in the workspace can be imported.
    """
    workspace.make_code_importable()
    path = workspace.frozen_params_file(iteration)
    if not path.exists():
        raise ConfigError(
            f"iteration {iteration} does not exist: no {workspace.relative(path)}. "
            "`distil extend` adds the next iteration with the settings of params.yaml."
        )
    values, where = read_mapping(path, workspace.relative(path)), workspace.relative(path)
    params = parse_iteration_params(values, where, with_components)
    if params.iteration != iteration:
        raise ConfigError(
            f"{workspace.relative(path)}: iteration is {params.iteration}, expected {iteration}; "
            f"restore the file with `git checkout {workspace.relative(path)}`"
        )
    return params


def parse_params(values: Any, where: str) -> Params:
    """Settings already read from YAML; `where` names their origin in errors."""
    params = _validated(Params, with_chat_template_text(values, where), where)
    require_purpose(params, where)
    require_scored_as_sampled(params, where)
    return params


def parse_iteration_params(
    values: Any, where: str, with_components: bool = True
) -> IterationParams:
    """Like `parse_params`, for a frozen iteration: an error says as well what can be done where
    it was frozen by a version with other settings. with_components: as in `load_iteration_params`.
    """
    try:
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: expected a mapping of settings, found {values!r}")
        as_of_now = migrated(values, where)
        if schema_version(values, where) < 1:
            return _once_read_laxly(as_of_now, where, with_components)
        return _validated(IterationParams, as_of_now, where, with_components)
    except ConfigError as error:
        number = values.get("iteration") if isinstance(values, dict) else None
        whose = "an iteration" if number is None else f"iteration {number}"
        raise ConfigError(
            f"{error}. These are the frozen settings of {whose}, which this version of DistIL "
            "cannot read: another version froze them (`git log --oneline -- iterations` names the "
            "commits), or they were edited since. What was made and recorded with them stays. Go "
            f"on with the code that froze them, undo an edit with `git checkout {where}`, or start "
            "over with `distil restart`"
        ) from error


def _validated(
    params_type: type[AnyParams], values: Any, where: str, with_components: bool = True
) -> AnyParams:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a mapping of settings, found {values!r}")
    params = validate(params_type, values, where)
    return _checked(params, values, where) if with_components else params


def _once_read_laxly(values: dict[str, Any], where: str, with_components: bool) -> IterationParams:
    """Settings of a version that took "128" for 128, and froze parts' options as they were given:
    where today's rules refuse them, the options become what that version made of them."""
    params = validate(IterationParams, values, where, strict=False)
    if with_components or hold_numbers_as_text(params):
        params = validate(IterationParams, with_typed_options(params), where)
    return _checked(params, values, where) if with_components else params


def _checked(params: AnyParams, values: Any, where: str) -> AnyParams:
    try:
        _check_components(params)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    refuse_secrets(values, where)
    return params


def _check_components(params: Params) -> None:
    """Every part named in the settings exists and accepts its options."""
    # Components import torch, which a program that only reads the settings' types does not need.
    from distil_core.objectives import OBJECTIVES
    from distil_core.problems import PROBLEM_SOURCES

    for path, registry in registries().items():
        chosen = part(params, path)
        registry.options(chosen.name, chosen.options)
    objective = OBJECTIVES.options(params.train.objective.name, params.train.objective.options)
    _check_expert_engine(params)
    _check_environment(params)
    harder = params.problems.generalisation_source
    if harder is not None:
        PROBLEM_SOURCES.options(harder.name, harder.options)
    _check_feedback(params)
    if objective.compares_rollouts and params.sample.num_rollouts < 2:
        raise ConfigError(
            f"train.objective {params.train.objective.name!r} compares rollouts of one prompt, as "
            "its options are: sample.num_rollouts must be at least 2, found 1"
        )
    if getattr(objective, "reads_turn_rewards", False) and params.context.environment is None:
        raise ConfigError(
            f"train.objective {params.train.objective.name!r} reads rewards of single turns, as "
            "its options are (credit: turn), and there is no context.environment that could give "
            "any: set one, or credit: rollout"
        )


def _check_feedback(params: Params) -> None:
    """The sources of feedback exist, may say what they say, and the contexts name what there is."""
    from distil_core.feedback.compose import check_templates
    from distil_core.feedback.sources import SOURCES, known_kinds

    for component in params.consult.sources:
        options = SOURCES.options(component.name, component.options)
        if options.shows_reference and params.consult.reveal != "expected_outputs":
            raise ConfigError(
                f"consult: feedback source {component.name!r} shows the hidden answer: set reveal "
                "to expected_outputs too"
            )
    context, kinds = params.context, known_kinds(params.consult.sources)
    check_templates(context.student_template, context.expert_template, kinds, context.chat)
    for setting, named, known in (
        ("shorten", {rule.field for rule in context.shorten}, {"prompt", "attempt", *kinds}),
        ("strip_thinking", {*context.strip_thinking}, {"attempt", "history", *kinds}),
    ):
        if unknown := sorted(named - known):
            raise ConfigError(
                f"context.{setting}: unknown field {unknown}; known: {', '.join(sorted(known))}"
                f"{did_you_mean(unknown[0], known)}"
            )


def _check_environment(params: Params) -> None:
    """The environment exists and accepts its options, and the expert can follow its turns."""
    environment = params.context.environment
    if environment is None:
        return
    from distil_core.environments import ENVIRONMENTS
    from distil_core.experts import EXPERTS

    ENVIRONMENTS.options(environment.name, environment.options)
    expert = params.tabulate.expert
    options = EXPERTS.options(expert.name, expert.options)
    if not options.follows_turns:
        used = "".join(f" with {kind} {name!r}" for kind, name in options.components_used[:1])
        raise ConfigError(
            f"tabulate.expert {expert.name!r}{used} does not follow what an environment answers "
            "between the turns of a rollout: use one that reads token ids (self, white_box, served "
            "without template), a program that takes the turns (docs/experts.md#over-turns), or "
            "leave context.environment out"
        )


def _check_expert_engine(params: Params) -> None:
    """An engine that scores for the expert must give as many ids as the tables are to hold."""
    from distil_core.engines import ENGINES
    from distil_core.experts import EXPERTS

    expert = params.tabulate.expert
    engine = EXPERTS.options(expert.name, expert.options).scoring_engine
    if engine is None:
        return
    largest = ENGINES.options(engine.name, engine.options).largest_top_k
    if largest is not None and params.tabulate.top_k > largest:
        raise ConfigError(
            f"tabulate.top_k {params.tabulate.top_k} exceeds {largest}, the most ids that the "
            f"expert's engine {engine.name!r} gives with its options: raise that limit in "
            "tabulate.expert.options.engine.options, or lower top_k"
        )
