"""What a campaign reads from outside of its settings, looked at before these are frozen: the
model's folder, the problems' files, and whether contexts fit. Otherwise each would come up in a
stage of its own, the last one after all rollouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.campaign.pins import unpinned
from distil_core.config.models import Params, PretrainedBase
from distil_core.errors import ConfigError, DistilError
from distil_core.experts import EXPERTS
from distil_core.feedback.contexts import ContextRenderer
from distil_core.feedback.prompt_turns import roles_of
from distil_core.feedback.sources import known_kinds
from distil_core.policy.checkpoint_files import require_model_folder
from distil_core.policy.conventions import read_json_object
from distil_core.policy.pretrained import model_folder, tokenizer_folder
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.problems import build_generalisation_source, build_source
from distil_core.problems.base import Problem, StoredSource
from distil_core.problems.messages import prompt_of
from distil_core.problems.splits import campaign_problems
from distil_core.problems.store import read_problems
from distil_core.training.supervised_file import read_supervised_rows
from distil_core.verifiers import build_verifier
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_POSITIONS = ("max_position_embeddings", "n_positions")
"""How configurations call the number of positions; the second is GPT-2's and its relatives'."""
_STRETCHES = ("yarn", "linear", "dynamic")
"""Kinds of rotary embeddings whose factor reaches beyond max_position_embeddings."""
_NUM_LONGEST = 32
"""Prompts of a split that contexts are made of, the longest: those are too long, if any is."""


def require_inputs(workspace: Workspace, params: Params) -> None:
    """Raise `ConfigError` with everything that is wrong with what the settings name. A hub's model
    that may be downloaded is not asked for; problems that a program makes are not made."""
    found = list(_wrong_with_the_model(params))
    tokenizer = None if found else _tokenizer(params, found)
    found += _wrong_with_the_expert(workspace, params)
    problems: list[Problem] = []
    try:
        problems = _stored_problems(params)
    except DistilError as error:
        found.append(f"{error}{_how_to_pin(params)}")
    found += _wrong_contexts(params, tokenizer, problems)
    found += _wrong_warm_start(params)
    _raise(found, params)


def require_inputs_again(workspace: Workspace, params: Params) -> None:
    """The same for more iterations of a campaign: its problems and its base are made already, and
    the files that they were made from may be gone."""
    policy_dir = workspace.policy_dir(0)
    if not (policy_dir / "tokenizer_config.json").exists():
        return
    found = [*_wrong_with_the_expert(workspace, params), *too_few_positions(params, policy_dir)]
    problems = []
    # Without harder problems their table is there, and has no rows.
    harder = ["generalisation"] if params.problems.generalisation is not None else []
    for split in ("train", "eval", *harder):
        if (file := workspace.problems_dir / f"{split}.parquet").exists():
            problems += _longest(read_problems(file))
    found += _wrong_contexts(params, load_tokenizer(policy_dir), problems)
    _raise(found, params)


def too_few_positions(params: Params, folder: Path) -> Iterator[str]:
    """Where the longest context and response have more tokens than the model knows positions."""
    positions = model_positions(folder)
    own = params.consult.self_evaluation
    new_tokens = max(
        params.sample.max_new_tokens,
        params.evaluate.max_new_tokens,
        own.max_new_tokens if own is not None else 0,
    )
    longest = params.max_turn_context_tokens
    if positions is not None and longest + new_tokens > positions:
        turns = params.context.environment and params.context.environment.max_turns
        of_turns = f" of {turns} turns (context.environment.max_turns)" if turns else ""
        yield (
            f"context.max_context_tokens {params.context.max_context_tokens} and max_new_tokens "
            f"{new_tokens}{of_turns} together exceed the {positions} positions of the model in "
            f"{folder} (max_position_embeddings): lower them"
        )


def model_positions(folder: Path) -> int | None:
    """How many positions the model knows, by its configuration, those that it stretches (YaRN and
    its like) included; None where that does not tell."""
    config = read_json_object(folder / "config.json")
    text_config = config.get("text_config")
    config |= text_config if isinstance(text_config, dict) else {}
    named = (config[name] for name in _POSITIONS if name in config)
    positions = next((number for number in named if isinstance(number, int) and number > 0), None)
    rotary = config.get("rope_parameters") or config.get("rope_scaling")
    if positions is None or not isinstance(rotary, dict):
        return positions
    factor, kind = rotary.get("factor"), rotary.get("rope_type", rotary.get("type"))
    if kind not in _STRETCHES or not isinstance(factor, int | float):
        return positions
    return max(positions, int(rotary.get("original_max_position_embeddings", positions) * factor))


def _raise(found: Sequence[str], params: Params) -> None:
    if found:
        lines = "".join(f"\n  {each}" for each in found)
        raise ConfigError(
            f"campaign {params.campaign} could not be run here, so nothing was frozen:{lines}\n"
            "Mend this, or freeze the settings for another machine with --no-check"
        )


def _wrong_with_the_model(params: Params) -> Iterator[str]:
    if not isinstance(params.base, PretrainedBase) or _is_downloaded(params.base):
        return
    try:
        folder = model_folder(params.base)
        yield from _wrong_with_folder(folder, tokenizer_folder(params.base), "base.path_or_id")
    except DistilError as error:
        yield str(error)
        return
    yield from too_few_positions(params, folder)


def _is_downloaded(base: PretrainedBase) -> bool:
    return base.allow_download and not Path(base.path_or_id).expanduser().is_dir()


def _wrong_with_the_expert(workspace: Workspace, params: Params) -> Iterator[str]:
    expert = params.tabulate.expert
    named = EXPERTS.options(expert.name, expert.options).checkpoint_path
    if named is not None:
        folder = workspace.root / Path(named).expanduser()
        what = f"the checkpoint of expert {expert.name!r}"
        wrong = list(_wrong_with_folder(folder, folder, what))
        yield from wrong or too_few_positions(params, folder)


def _wrong_with_folder(folder: Path, with_tokenizer: Path, what: str) -> Iterator[str]:
    if not folder.is_dir():
        yield f"{what}: there is no folder {folder}"
        return
    if not (folder / "config.json").exists():
        yield f"{what}: {folder} has no config.json: expected a Hugging Face checkpoint"
    if not (with_tokenizer / "tokenizer_config.json").exists():
        yield f"{what}: {with_tokenizer} has no tokenizer (tokenizer_config.json)"
    try:
        require_model_folder(folder)
    except DistilError as error:
        yield f"{what}: {error}"


def _tokenizer(params: Params, found: list[str]) -> PreTrainedTokenizerBase | None:
    """Of a checkpoint that is here; what is wrong with it is added to `found`."""
    if not isinstance(params.base, PretrainedBase) or _is_downloaded(params.base):
        return None
    try:
        return load_tokenizer(tokenizer_folder(params.base))
    except DistilError as error:
        found.append(str(error))
        return None


def _stored_problems(params: Params) -> list[Problem]:
    """The longest ones of each split, where they come from stored rows. Raises what the stage
    `problems` would raise."""
    sources = (build_source(params.problems), build_generalisation_source(params.problems))
    if not any(isinstance(source, StoredSource) for source in sources):
        return []
    with closing(build_verifier(params.consult)) as verifier:
        splits = campaign_problems(params, verifier.check_problem).splits
    return [problem for problems in splits.values() for problem in _longest(problems)]


def _wrong_warm_start(params: Params) -> Iterator[str]:
    """What is wrong with a user's own rows for the base; whether each fits is seen when they are
    made into examples."""
    warm = params.base.warm_start if isinstance(params.base, PretrainedBase) else None
    if warm is None or warm.file is None:
        return
    try:
        read_supervised_rows(warm.file, warm, known_kinds(params.consult.sources))
    except DistilError as error:
        yield f"{error}{_how_to_pin(params)}"


def _how_to_pin(params: Params) -> str:
    return "; `distil pin` writes it there" if unpinned(params.model_dump()) else ""


def _longest(problems: Sequence[Problem]) -> list[Problem]:
    longest = sorted(problems, key=lambda problem: -len(problem.prompt))[:_NUM_LONGEST]
    # A chat template may refuse some orders of turns, so one conversation of each is with them.
    forms = {roles_of(prompt_of(problem)): problem for problem in problems}
    return [*longest, *forms.values()]


def _wrong_contexts(
    params: Params, tokenizer: PreTrainedTokenizerBase | None, problems: Sequence[Problem]
) -> Iterator[str]:
    """The first context that cannot be made."""
    if tokenizer is None:
        return
    where = ""
    try:
        renderer = ContextRenderer(params.context, tokenizer)
        for problem in problems:
            prompt = prompt_of(problem)
            where = "" if isinstance(prompt, str) else f" (the prompt {problem.prompt[:60]!r})"
            renderer.student(prompt, problem.problem_id)
    except DistilError as error:
        yield f"{error}{where}"
