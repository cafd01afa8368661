"""Settings that are valid each on its own, but together would do nothing, or not what they say.

They are refused where a person chooses them. Frozen iterations that have them stay readable, and
keep their meaning.
"""

from collections.abc import Iterator
from string import Formatter

from distil_core.config.models import Params
from distil_core.errors import ConfigError


def require_purpose(params: Params, where: str) -> None:
    """Raise `ConfigError` with all such combinations. where: the name of the settings file."""
    found = [*_longer_warm_ups(params), *_without_effect(params), *_too_long(params)]
    if found:
        raise ConfigError(f"{where}: {'; '.join(found)}")


def _longer_warm_ups(params: Params) -> Iterator[str]:
    stretches = [("train", params.train.warmup_steps, params.train.num_steps, "train.num_steps")]
    if params.base.kind == "from_scratch":
        total = sum(phase.num_steps for phase in params.base.phases)
        all_phases = "the steps of all base.phases"
        stretches.append(("base", params.base.warmup_steps, total, all_phases))
    elif (warm_start := params.base.warm_start) is not None:
        section, steps = "base.warm_start", "the steps of all base.warm_start.phases"
        stretches.append((section, warm_start.warmup_steps, warm_start.num_steps, steps))
    for section, warmup_steps, num_steps, steps in stretches:
        if warmup_steps > num_steps:
            yield (
                f"{section}.warmup_steps {warmup_steps} exceeds {steps}, {num_steps}: the learning "
                f"rate would never reach {section}.learning_rate. Lower it to {num_steps} or less, "
                "or take more steps"
            )


def _without_effect(params: Params) -> Iterator[str]:
    train = params.train
    if (train.micro_batch_rollouts or 0) > train.batch_rollouts:
        yield (
            f"train.micro_batch_rollouts {train.micro_batch_rollouts} exceeds "
            f"train.batch_rollouts {train.batch_rollouts}, which it is to be a part of: lower it, "
            "or set it to null"
        )
    if train.decisions is not None and train.objective.name == "grpo":
        yield (
            "train.decisions selects where the expert is listened to, and train.objective grpo "
            "reads no expert: leave it out, or blend in a distillation"
        )
    if (
        train.decisions is not None
        and train.decisions.select == "marked"
        and params.context.environment is None
    ):
        yield (
            "train.decisions.select marked keeps the turns that an environment marks, and there "
            "is no context.environment: choose another selection, or set one"
        )
    warm_start = params.base.warm_start if params.base.kind == "pretrained" else None
    if warm_start is not None and (warm_start.micro_batch_size or 0) > warm_start.batch_size:
        yield (
            f"base.warm_start.micro_batch_size {warm_start.micro_batch_size} exceeds "
            f"base.warm_start.batch_size {warm_start.batch_size}, which it is to be a part of: "
            "lower it, or set it to null"
        )
    if params.consult.peer_solution and params.sample.num_rollouts == 1:
        yield (
            "consult.peer_solution needs another rollout of the same prompt, and "
            "sample.num_rollouts is 1: raise it, or leave peer_solution out"
        )
    base = params.base
    if (
        base.kind == "from_scratch"
        and base.num_corrections is not None
        and not any(phase.correction_fraction for phase in base.phases)
    ):
        yield (
            f"base.num_corrections {base.num_corrections} makes corrections, and no phase of "
            "base.phases has a correction_fraction above 0: leave it out, or raise one"
        )
    context = params.context
    stripped = [field for field in context.strip_thinking if field != "history"]
    for setting, field in [
        *(("shorten", rule.field) for rule in context.shorten),
        *(("strip_thinking", field) for field in stripped),
    ]:
        if field not in _fields_of_templates(params):
            what = "the rule" if setting == "shorten" else "it"
            yield (
                f"context.{setting} names {field}, which is in no template: leave {what} out, "
                f"or write {{{field}}} into context.expert_template"
            )
    if params.problems.source.options.get("prompt_messages") == "turns" and not context.chat:
        yield (
            "problems.source.options.prompt_messages is turns, and only a chat template can write "
            "these: set context.chat: true, or prompt_messages: joined"
        )


def _too_long(params: Params) -> Iterator[str]:
    own = params.consult.self_evaluation
    if own is None or params.base.kind != "from_scratch":
        return
    max_positions = params.base.architecture.max_positions
    needed = params.context.max_context_tokens + own.max_new_tokens
    if max_positions < needed:
        yield (
            f"base.architecture.max_positions {max_positions} is less than {needed}, "
            f"context.max_context_tokens {params.context.max_context_tokens} and "
            f"consult.self_evaluation.max_new_tokens {own.max_new_tokens} together: raise it, or "
            "lower them"
        )


def _fields_of_templates(params: Params) -> set[str]:
    own = params.consult.self_evaluation
    templates = [] if own is None else [own.template]
    for template in (params.context.student_template, params.context.expert_template):
        messages = [] if isinstance(template, str) else template
        templates += [template] if isinstance(template, str) else []
        templates += [message.content for message in messages]
    parsed = (piece for template in templates for piece in Formatter().parse(template))
    return {field for _, field, _, _ in parsed if field}
