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


@pytest.fixture(scope="module")
def logs(campaign: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All evaluations of these tests by name, run by inspect_ai in one process of its own, in the
    workspace's root."""
    folder = tmp_path_factory.mktemp("logs")
    exported = export_policy(campaign, "champion", folder / "exported")
    again = {"epochs": 5, "seed": 3}
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "greedy": ("distil/policy-002", {"temperature": 0.0}),
        "champion": ("distil/champion", again),
        "exported": (f"distil/{exported.folder}", again),
        "by number": (f"distil/policy-{exported.iteration:03d}", again),
        "other seed": ("distil/champion", again | {"seed": 4}),
        "logprobs": ("distil/newest", {"logprobs": True, "max_tokens": 2}),
        "told": ("distil/champion", {"told": True}),
        "stop": ("distil/champion", {"stop_seqs": ["x"], "top_k": 5}),
    }
    script = (
        "import json, sys\n"
        "import distil_core.outside_evaluation.registration\n"
        "from inspect_ai import eval\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from inspect_task import sums\n"
        "found = {}\n"
        "for name, (model, options) in json.loads(sys.argv[2]).items():\n"
        "    task = sums(told=options.pop('told', False))\n"
        "    log, = eval(task, model=model, display='none', log_format='json',\n"
        "                log_dir=sys.argv[3], **options)\n"
        "    found[name] = log.location\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, TASK.parent, json.dumps(asked), folder],
        cwd=campaign.root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: json.loads(Path(place).read_text()) for name, place in found.items()}


def answers(log: dict[str, Any]) -> list[tuple[str, int, str]]:
    assert log["status"] == "success", log.get("error")
    return sorted(
        (sample["id"], sample["epoch"], sample["output"]["choices"][0]["message"]["content"])
        for sample in log["samples"]
    )


def test_greedy_answers_are_the_engines_own_in_the_campaigns_context(
    campaign: Workspace, logs: dict[str, Any]
) -> None:
    log = logs["greedy"]
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


def test_an_exported_folder_answers_as_the_workspace_does(logs: dict[str, Any]) -> None:
    here = answers(logs["champion"])
    assert answers(logs["exported"]) == answers(logs["by number"]) == here
    assert answers(logs["other seed"]) != here
    # Epochs draw different numbers for the same problem.
    assert len({text for prompt, _, text in here if prompt == here[0][0]}) > 1


def test_log_probabilities_are_those_it_was_sampled_with(logs: dict[str, Any]) -> None:
    for sample in logs["logprobs"]["samples"]:
        (choice,) = sample["output"]["choices"]
        listed = choice["logprobs"]["content"]
        assert 1 <= len(listed) <= 2
        assert all(one["logprob"] <= 0.0 for one in listed)
        ended = listed[-1]["token"] == "<|end|>"
        assert choice["stop_reason"] == ("stop" if ended else "max_tokens")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("told", "trained on one message of a user, the task has system, user"),
        ("stop", "the task sets stop_seqs, top_k"),
    ],
)
def test_what_would_give_another_figure_is_refused(
    logs: dict[str, Any], name: str, says: str
) -> None:
    assert logs[name]["status"] == "error"
    assert says in logs[name]["error"]["message"]


def test_a_wrong_name_is_said(campaign: Workspace) -> None:
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
