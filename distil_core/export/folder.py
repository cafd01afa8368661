"""A policy as an ordinary Hugging Face folder that needs nothing of this project.

The weights are the policy's own files, byte for byte (an adapter was merged when it was trained).
What is new is what other programs go by: the end tokens and the sampling distribution of the
evaluation in generation_config.json, the campaign's context as chat template, the card, and the
evidence.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distil_core.campaign.load import load_iteration_params
from distil_core.config.models import EvaluateParams, IterationParams
from distil_core.errors import ExportError
from distil_core.export.card import Template, export_card
from distil_core.export.chat_template import campaign_chat_template, count_same_tokens
from distil_core.export.chosen import chosen_policy
from distil_core.export.evidence import EVIDENCE_FILE, SETTINGS_FILE, evidence_text
from distil_core.files import atomic_path
from distil_core.lineage.evidence.inputs import require_unchanged
from distil_core.lineage.evidence.iteration import Evidence
from distil_core.lineage.pages.chain import Chain
from distil_core.policy.card_opening import CARD_FILE
from distil_core.policy.checkpoint_files import (
    describing_files,
    index_files,
    require_model_folder,
    weight_files,
)
from distil_core.policy.conventions import end_token_ids, read_json_object
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.problems.messages import prompt_of
from distil_core.problems.store import read_problems
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERATION, _CHAT_TEMPLATE = "generation_config.json", "chat_template.jinja"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_MAX_COMPARED = 8
"""Held-out prompts on which the chat template is compared with the campaign's context."""


@dataclass(frozen=True)
class Exported:
    """What was written. template: on how many held-out prompts the chat template was compared."""

    folder: Path
    campaign: str
    iteration: int
    template: Template


def export_policy(workspace: Workspace, wanted: str, target: Path) -> Exported:
    """Write the policy's folder; an earlier export in its place is replaced.

    Raises `ExportError` for a policy that there is not and a target that holds something else, and
    `LineageError` where the workspace's files are not those that were recorded.
    """
    target = target.absolute()
    _require_free(workspace, target)
    evidence = chosen_policy(workspace, wanted)
    this = evidence[max(evidence)]
    params = load_iteration_params(workspace, this.iteration, with_components=False)
    require_unchanged(workspace, this.artifacts["eval_problems"])
    try:
        with atomic_path(target) as folder:
            folder.mkdir()
            template = _write_model(workspace, this, params, folder)
            chain = Chain(this.campaign, "", evidence, {})
            card = export_card(workspace, chain, params, template)
            (folder / CARD_FILE).write_text(card, encoding="utf-8")
            shutil.copyfile(workspace.frozen_params_file(this.iteration), folder / SETTINGS_FILE)
            text = evidence_text(workspace, this)
            (folder / EVIDENCE_FILE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"cannot write {target} ({error}): name a folder that you own") from error
    return Exported(target, this.campaign, this.iteration, template)


def _require_free(workspace: Workspace, target: Path) -> None:
    if target.resolve().is_relative_to((workspace.root / "data").resolve()):
        raise ExportError(
            f"{target} lies in data/, which belongs to DVC: export to a folder elsewhere"
        )
    if not target.exists():
        return
    is_earlier = target.is_dir() and (target / EVIDENCE_FILE).is_file()
    if not is_earlier and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(
            f"{target} exists and is no earlier export (it has no {EVIDENCE_FILE}): name another "
            "folder, or remove it"
        )


def _write_model(
    workspace: Workspace, this: Evidence, params: IterationParams, folder: Path
) -> Template:
    source = workspace.policy_dir(this.iteration)
    require_model_folder(source)
    for file in (*describing_files(source), *index_files(source), *weight_files(source)):
        shutil.copyfile(file, folder / file.name)
    tokenizer = load_tokenizer(source)
    generation = _generation_config(source, tokenizer, params.evaluate)
    _write_json(folder / _GENERATION, generation)
    prompts = [prompt_of(one) for one in read_problems(workspace.problems_dir / "eval.parquet")]
    conversations = not all(isinstance(prompt, str) for prompt in prompts)
    text = campaign_chat_template(params.context, tokenizer, conversations)
    (folder / _CHAT_TEMPLATE).write_text(text, encoding="utf-8")
    settings = read_json_object(folder / _TOKENIZER_CONFIG)
    if settings.pop("chat_template", None) is not None:
        # Some programs would read it in place of the file.
        _write_json(folder / _TOKENIZER_CONFIG, settings)
    compared = prompts[:_MAX_COMPARED]
    same = count_same_tokens(load_tokenizer(folder), params.context, tokenizer, compared)
    return Template(num_same=same, num_compared=len(compared))


def _generation_config(
    source: Path, tokenizer: "PreTrainedTokenizerBase", evaluate: EvaluateParams
) -> dict[str, Any]:
    """Every token that ends a response, and the distribution that the scores were measured with.
    Other habits of the checkpoint (a repetition penalty) are left out: no score has them."""
    tokens = {
        name: value
        for name, value in read_json_object(source / _GENERATION).items()
        if name.endswith("_token_id")
    }
    if tokenizer.pad_token_id is not None:
        tokens.setdefault("pad_token_id", tokenizer.pad_token_id)
    ends = list(end_token_ids(tokenizer))
    return {
        **tokens,
        "eos_token_id": ends if ends[1:] else ends[0],
        "do_sample": True,
        "temperature": evaluate.temperature,
        "top_p": evaluate.top_p,
        # transformers takes 50 where nothing is said.
        "top_k": 0,
        "max_new_tokens": evaluate.max_new_tokens,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
