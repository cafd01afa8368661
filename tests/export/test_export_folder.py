"""An exported folder, as programs that know nothing of this project read it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from export_scratch import finished_campaign, lock_all, reject

from distil_core.engines.base import SampleRequest, SamplingSettings, ScoreRequest
from distil_core.errors import ExportError, LineageError
from distil_core.export.folder import Exported, export_policy
from distil_core.progress import no_progress
from distil_core.workspace import Workspace

PROMPT = "1+2-1="


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two iterations that really ran. Read only."""
    return finished_campaign(tmp_path_factory.mktemp("export") / "campaign")


@pytest.fixture(scope="module")
def exported(campaign: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_policy(campaign, "newest", tmp_path_factory.mktemp("exported") / "policy")


def test_plain_transformers_computes_our_engines_log_probabilities(
    campaign: Workspace, exported: Exported, tmp_path: Path
) -> None:
    """In a process that imports nothing of ours, from the chat template to the log-probabilities of
    what it generated itself."""
    script = tmp_path / "plain.py"
    script.write_text(
        "import json, sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "folder, prompt = sys.argv[1:]\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "model = AutoModelForCausalLM.from_pretrained(folder)\n"
        "inputs = tokenizer.apply_chat_template([{'role': 'user', 'content': prompt}],\n"
        "    add_generation_prompt=True, return_tensors='pt', return_dict=True)\n"
        "torch.manual_seed(3)\n"
        "whole = model.generate(**inputs, num_return_sequences=6)\n"
        "start = inputs['input_ids'].shape[1]\n"
        "rows = []\n"
        "for ids in whole.tolist():\n"
        "    answer = ids[start:]\n"
        "    if model.generation_config.eos_token_id in answer:\n"
        "        answer = answer[: answer.index(model.generation_config.eos_token_id) + 1]\n"
        "    with torch.no_grad():\n"
        "        logits = model(torch.tensor([ids[:start] + answer])).logits[0, start - 1 : -1]\n"
        "    chosen = logits.log_softmax(-1)[range(len(answer)), answer]\n"
        "    rows.append([ids[:start], answer, chosen.tolist()])\n"
        "assert 'distil_core.config' not in sys.modules\n"
        "print(json.dumps(rows))\n"
    )
    done = subprocess.run(
        [sys.executable, script, exported.folder, PROMPT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)

    from distil_core.campaign.load import load_iteration_params
    from distil_core.engines import build_engine
    from distil_core.feedback.contexts import ContextRenderer
    from distil_core.policy.tokenizer import load_tokenizer

    params = load_iteration_params(campaign, 2, with_components=False)
    policy_dir = campaign.policy_dir(2)
    context = ContextRenderer(params.context, load_tokenizer(policy_dir)).student(PROMPT, "p")
    engine = build_engine(params.sample.engine, policy_dir, params.compute)
    scored = engine.score(
        [ScoreRequest(ids, answer) for ids, answer, _ in rows], 1000, 1.0, no_progress
    )
    for (ids, answer, logprobs), ours in zip(rows, scored, strict=True):
        assert ids == context.token_ids
        starts = [sum(ours.counts_t[:t]) for t in range(len(answer))]
        for t, token in enumerate(answer):
            stored = ours.token_ids[starts[t] : starts[t] + ours.counts_t[t]].tolist()
            at = starts[t] + stored.index(token)
            assert logprobs[t] == pytest.approx(float(ours.logprobs[at]), abs=2e-5)


def test_generate_draws_from_the_evaluations_distribution(exported: Exported) -> None:
    config = json.loads((exported.folder / "generation_config.json").read_text())
    settings = yaml.safe_load((exported.folder / "distil-settings.yaml").read_text())["evaluate"]
    assert config["do_sample"] is True
    assert config["top_k"] == 0
    for name in ("temperature", "top_p", "max_new_tokens"):
        assert config[name] == settings[name]


def test_weights_are_the_policys_own_bytes(campaign: Workspace, exported: Exported) -> None:
    name = "model.safetensors"
    assert (exported.folder / name).read_bytes() == (campaign.policy_dir(2) / name).read_bytes()
    assert not (exported.folder / name).samefile(campaign.policy_dir(2) / name)


def test_the_engine_samples_the_same_from_the_folder(
    campaign: Workspace, exported: Exported
) -> None:
    from distil_core.campaign.load import load_iteration_params
    from distil_core.engines import build_engine

    params = load_iteration_params(campaign, 2, with_components=False)
    requests = [SampleRequest([5, 6, 7], seed) for seed in range(8)]
    settings = SamplingSettings(max_new_tokens=6, temperature=1.0, top_p=1.0)
    answers = [
        build_engine(params.sample.engine, folder, params.compute).sample(
            requests, settings, no_progress
        )
        for folder in (exported.folder, campaign.policy_dir(2))
    ]
    assert answers[0] == answers[1]


def test_the_card_has_scores_with_intervals_where_hubs_look(
    campaign: Workspace, exported: Exported
) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(exported.folder / "README.md")
    metrics = json.loads(campaign.metrics_file(2).read_text())
    assert card.data.library_name == "transformers"
    results = {result.metric_type: result for result in card.data.eval_results}
    assert set(results) == {"pass@1", "pass@2", "pass@4"}
    assert results["pass@1"].metric_value == metrics["pass_at_1"]
    interval = [metrics["pass_at_1_low"], metrics["pass_at_1_high"]]
    assert results["pass@1"].metric_args == {"interval_95": interval}
    low, high = interval
    assert f"| pass@1 | {metrics['pass_at_1']:.3f} | {low:.3f} to {high:.3f} |" in card.text


def test_the_card_has_lineage_data_and_digests(campaign: Workspace, exported: Exported) -> None:
    evidence = json.loads((exported.folder / "distil.json").read_text())
    text = (exported.folder / "README.md").read_text()
    assert evidence["artifacts"]["feedback"]["md5"][:10] in text
    for role in ("train_problems", "eval_problems"):
        assert f"md5 `{evidence['artifacts'][role]['md5']}`" in text
    assert evidence["policy"]["md5"] in text
    assert "chain_arithmetic, num_operations 2, modulus 3" in text
    assert "On all 8 held-out problems it gives the campaign's own tokens." in text
    assert "&emsp;" not in text
    assert evidence["metrics"] == {
        name: value
        for name, value in json.loads(campaign.metrics_file(2).read_text()).items()
        if name != "iteration"
    }


def test_champion_is_the_one_that_the_gate_named(campaign: Workspace, tmp_path: Path) -> None:
    champion = json.loads(campaign.decision_file(2).read_text())["champion"]
    for wanted in ("champion", "chain-arithmetic@champion", f"policy-{champion:03d}"):
        assert export_policy(campaign, wanted, tmp_path / "out").iteration == champion


def test_every_end_token_and_no_other_habit_of_the_checkpoint(
    campaign: Workspace, tmp_path: Path
) -> None:
    """A chat model's files: a second end token, a penalty that no score has, an old template."""
    shutil.copytree(campaign.root, tmp_path / "campaign")
    workspace = Workspace(tmp_path / "campaign")
    folder = workspace.policy_dir(2)
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    changed = tokenizer_config | {"chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(changed))
    generation = {"eos_token_id": [5, 1], "bos_token_id": 4, "repetition_penalty": 1.3}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    lock_all(workspace, [2])
    out = export_policy(workspace, "2", tmp_path / "out").folder
    config = json.loads((out / "generation_config.json").read_text())
    assert config["eos_token_id"] == [1, 5]
    assert (config["bos_token_id"], config["pad_token_id"]) == (4, 0)
    assert "repetition_penalty" not in config
    assert json.loads((out / "tokenizer_config.json").read_text()) == tokenizer_config
    from transformers import AutoTokenizer, GenerationConfig

    assert GenerationConfig.from_pretrained(out).eos_token_id == [1, 5]
    template = AutoTokenizer.from_pretrained(out).chat_template
    assert template == (out / "chat_template.jinja").read_text()
    assert template.endswith("""{{- messages[0]['content'] ~ "|" -}}""")


def test_the_card_says_where_the_gate_refused(campaign: Workspace, tmp_path: Path) -> None:
    shutil.copytree(campaign.root, tmp_path / "campaign")
    workspace = Workspace(tmp_path / "campaign")
    reject(workspace, 2, champion=1, handed_over=1)
    export_policy(workspace, "newest", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "**Not promoted**: pass_at_1 is worse. Champion stayed policy 001." in text


def test_the_base_is_exported_too(campaign: Workspace, tmp_path: Path) -> None:
    assert export_policy(campaign, "0", tmp_path / "base").iteration == 0
    assert "The base policy of a campaign" in (tmp_path / "base" / "README.md").read_text()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("other@champion", "names no policy"),
        ("7", "the last one is 002"),
        ("best", "champion, new"),
    ],
)
def test_an_unknown_policy_is_refused(
    campaign: Workspace, tmp_path: Path, wanted: str, says: str
) -> None:
    with pytest.raises(ExportError, match=says):
        export_policy(campaign, wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_export_is_never_replaced(campaign: Workspace, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"no earlier export \(it has no distil.json\)"):
        export_policy(campaign, "newest", tmp_path)
    with pytest.raises(ExportError, match="belongs to DVC"):
        export_policy(campaign, "newest", campaign.root / "data" / "policy-000")
    export_policy(campaign, "0", tmp_path / "out")
    export_policy(campaign, "newest", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "distil.json").read_text())["iteration"] == 2


def test_a_place_that_cannot_be_written_is_said(campaign: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    with pytest.raises(ExportError, match=r"cannot write .*a-file/out"):
        export_policy(campaign, "0", tmp_path / "a-file" / "out")


def test_damaged_weights_are_not_exported(campaign: Workspace, tmp_path: Path) -> None:
    weights = campaign.policy_dir(1) / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(LineageError, match="is not what train@001 wrote"):
            export_policy(campaign, "1", tmp_path / "out")
    finally:
        weights.write_bytes(content)
