"""A campaign's settings with all sizes scaled down together, to see in little time that everything
works: problems, warm start, rollouts, training steps, iterations. What they are about stays: the
policy, contexts, components, samples of a problem and their lengths."""

from math import ceil
from typing import Any

from distil_core.campaign.load import parse_params
from distil_core.config.models import Params
from distil_core.errors import ConfigError

MAX_ITERATIONS = 2
"""So many show what one iteration hands to the next."""
_WARM_START_PER_PROMPT = 64


def in_miniature(params: Params, limit: int) -> Params:
    """limit: prompts of an iteration, and held-out problems, at most. Nothing gets larger than it
    was. Raises `ConfigError` for a limit below 1."""
    if limit < 1:
        raise ConfigError(f"--limit must be at least 1, found {limit}")
    values = params.model_dump(mode="json")
    values["num_iterations"] = min(params.num_iterations, MAX_ITERATIONS)
    num_prompts = min(params.sample.num_prompts, limit)
    values["sample"]["num_prompts"] = num_prompts
    _problems(values["problems"], limit, num_prompts * values["num_iterations"])
    num_before, num_now = params.problems.num_warm_start, values["problems"]["num_warm_start"]
    if params.base.kind == "from_scratch":
        _warm_start(values["base"], num_before, num_now)
    elif (warm := params.base.warm_start) is not None:
        if warm.file is not None:
            # The file stays whole: as many steps as for so many problems.
            num_now = min(limit, warm.batch_size)
            num_before = warm.num_steps * warm.batch_size
        _warm_start(values["base"]["warm_start"], num_before, num_now)
    _training(values["train"], params, num_prompts)
    return parse_params(values, "params.yaml in miniature")


def _problems(problems: dict[str, Any], limit: int, num_train: int) -> None:
    for name, most in (
        ("num_train", num_train),
        ("num_eval", limit),
        ("num_warm_start", limit * _WARM_START_PER_PROMPT),
    ):
        before = problems[name]
        problems[name] = most if before == "all" else min(before, most)
    if harder := problems.get("generalisation"):
        harder["num_problems"] = min(harder["num_problems"], limit)


def _warm_start(base: dict[str, Any], num_before: int, num_now: int) -> None:
    """As often over its problems as before, in smaller batches where there are few."""
    share = num_now / num_before
    if base["num_corrections"] is not None:
        base["num_corrections"] = max(1, round(base["num_corrections"] * share))
    base["phases"] = [
        phase | {"num_steps": max(1, ceil(phase["num_steps"] * share))} for phase in base["phases"]
    ]
    base["batch_size"] = min(base["batch_size"], num_now)
    if base.get("micro_batch_size") is not None:
        base["micro_batch_size"] = min(base["micro_batch_size"], base["batch_size"])
    num_steps = sum(phase["num_steps"] for phase in base["phases"])
    base["warmup_steps"] = min(ceil(base["warmup_steps"] * share), num_steps)


def _training(train: dict[str, Any], params: Params, num_prompts: int) -> None:
    """As often over its rollouts as before; whole groups in a batch."""
    group, before = params.sample.num_rollouts, params.train
    num_rollouts = num_prompts * group
    train["batch_rollouts"] = min(before.batch_rollouts, num_rollouts)
    passes = before.num_steps * before.batch_rollouts / (params.sample.num_prompts * group)
    num_steps = max(1, ceil(passes * num_rollouts / train["batch_rollouts"]))
    train["num_steps"] = min(before.num_steps, num_steps)
    if before.micro_batch_rollouts is not None:
        train["micro_batch_rollouts"] = min(before.micro_batch_rollouts, train["batch_rollouts"])
    share = train["num_steps"] / before.num_steps
    train["warmup_steps"] = min(ceil(before.warmup_steps * share), train["num_steps"])
