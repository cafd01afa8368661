"""inspect_ai itself evaluates policies of a campaign that really ran."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from export_scratch import finished_campaign

from distil_core.campaign.load import load_iteration_params
from distil_core.engines import build_engine
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.export.folder import export_policy
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import decode, load_tokenizer
from distil_core.progress import no_progress
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
TASK = Path(__file__).with_name("inspect_task.py")

pytest.importorskip("inspect_ai", reason="inspect-ai is not installed")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Read only."""
    return finished_campaign(tmp_path_factory.mktemp("inspect") / "campaign")


def evaluate(workspace: Workspace, model: str, folder: Path, **options: Any) -> dict[str, Any]:
    """The log of `inspect_ai.eval` in a process of its own, in the workspace's root."""
    arguments = {"display": "none", "log_dir": str(folder), "log_format": "json", **options}
    script = (
        "import json, sys\n"
        "import distil_core.outside_evaluation.registration\n"
        "from inspect_ai import eval\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from inspect_task import sums\n"
        "options = json.loads(sys.argv[3])\n"
        "log, = eval(sums(told=options.pop('told', False)), model=sys.argv[2], **options)\n"
        "print(log.location)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, TASK.parent, model, json.dumps(arguments)],
        cwd=workspace.root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    log: dict[str, Any] = json.loads(Path(done.stdout.split()[-1]).read_text())
    return log


def answers(log: dict[str, Any]) -> list[tuple[str, int, str]]:
    assert log["status"] == "success", log.get("error")
    return sorted(
        (sample["id"], sample["epoch"], sample["output"]["choices"][0]["message"]["content"])
        for sample in log["samples"]
    )


def test_greedy_answers_are_the_engines_own_in_the_campaigns_context(
    campaign: Workspace, tmp_path: Path
) -> None:
    log = evaluate(campaign, "distil/policy-002", tmp_path, temperature=0.0)
    params = load_iteration_params(campaign, 2, with_components=False)
    policy_dir = campaign.policy_dir(2)
    tokenizer = load_tokenizer(policy_dir)
    renderer = ContextRenderer(params.context, tokenizer)
    engine = build_engine(params.sample.engine, policy_dir, params.compute)
    # So sharp that each draw is the most likely token.
    settings = SamplingSettings(params.evaluate.max_new_tokens, 1e-4, 1.0)
    prompts = sorted(sample["id"] for sample in log["samples"])
    requests = [SampleRequest(renderer.student(p, p).token_ids, 0) for p in prompts]
    ours = engine.sample(requests, settings, no_progress)
    assert [text for _, _, text in answers(log)] == [
        decode(tokenizer, one.token_ids) for one in ours
    ]
    first = log["samples"][0]["output"]
    assert first["usage"]["output_tokens"] <= params.evaluate.max_new_tokens
    accuracy = log["results"]["scores"][0]["metrics"]["accuracy"]["value"]
    assert accuracy == sum(text[-1:] == "2" for _, _, text in answers(log)) / len(prompts)


def test_an_exported_folder_answers_as_the_workspace_does(
    campaign: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    champion = export_policy(campaign, "champion", folder).iteration
    here = answers(evaluate(campaign, "distil/champion", tmp_path / "a", epochs=5, seed=3))
    there = answers(evaluate(campaign, f"distil/{folder}", tmp_path / "b", epochs=5, seed=3))
    named = answers(
        evaluate(campaign, f"distil/policy-{champion:03d}", tmp_path / "c", epochs=5, seed=3)
    )
    assert here == there == named
    assert answers(evaluate(campaign, "distil/champion", tmp_path / "d", epochs=5, seed=4)) != here
    # Epochs draw different numbers for the same problem.
    assert len({text for prompt, _, text in here if prompt == here[0][0]}) > 1


def test_log_probabilities_are_those_it_was_sampled_with(
    campaign: Workspace, tmp_path: Path
) -> None:
    log = evaluate(campaign, "distil/newest", tmp_path, logprobs=True, max_tokens=2)
    for sample in log["samples"]:
        (choice,) = sample["output"]["choices"]
        listed = choice["logprobs"]["content"]
        assert 1 <= len(listed) <= 2
        assert all(one["logprob"] <= 0.0 for one in listed)
        assert choice["stop_reason"] == ("stop" if len(listed) < 2 else choice["stop_reason"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"told": True}, "trained on one message of a user, the task has system, user"),
        ({"stop_seqs": ["x"], "top_k": 5}, "the task sets stop_seqs, top_k"),
    ],
)
def test_what_would_give_another_figure_is_refused(
    campaign: Workspace, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    log = evaluate(campaign, "distil/champion", tmp_path, **options)
    assert log["status"] == "error"
    assert says in log["error"]["message"]


def test_a_wrong_name_is_said(campaign: Workspace, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import distil_core.outside_evaluation.registration\n"
            "from inspect_ai.model import get_model\n"
            "get_model('distil/best')\n",
        ],
        cwd=campaign.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "'best' names no policy: expected champion, newest" in done.stderr


def test_the_entry_point_registers_the_model() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (named,) = project["entry-points"]["inspect_ai"].values()
    module = EntryPoint("distil", named, "inspect_ai").load()
    assert callable(module.distil)
