"""What the viewer of samples gathers from a tiny campaign's tables (20 s)."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pipeline_scratch
import pytest
import yaml

from distil_core.errors import ConfigError, DataError
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.report.samples import write_samples
from distil_core.report.samples.gather import gather_samples
from distil_core.tables.schemas import (
    CONSULTATIONS,
    EVALUATION,
    FEEDBACK,
    ROLLOUTS,
    FeedbackItem,
    TurnRow,
)
from distil_core.tables.store import read_rows, write_shards, write_table
from distil_core.workspace import Workspace


@pytest.fixture(scope="module")
def samples(campaign: Workspace) -> dict[str, Any]:
    return gather_samples(campaign, 1, 1000)


def test_every_rollout_with_all_that_is_known_of_it(
    campaign: Workspace, samples: dict[str, Any]
) -> None:
    rollouts = read_rows(campaign.rollouts_file(1), ROLLOUTS)
    consultations = read_rows(campaign.consultations_file(1), CONSULTATIONS)
    texts, tokens = samples["texts"], samples["tokens"]
    shown = samples["sets"]["rollouts"]
    assert samples["totals"]["rollouts"] == len(shown) == len(rollouts) == 24
    for one, rollout, consultation in zip(shown, rollouts, consultations, strict=True):
        assert one["id"] == rollout.rollout_id
        assert texts[one["c"]] == f"{texts[one['p']]}|"
        assert (one["a"], one["f"]) == (rollout.response, rollout.finish_reason)
        written = "".join(tokens[token] for token in one["t"])
        assert written.removesuffix("⏎") == rollout.response
        assert (one["v"], one["r"]) == (consultation.verdict, consultation.reward)
        assert one["b"] == [[item.kind, item.text] for item in consultation.feedback]
        assert one["m"] == pytest.approx(rollout.behaviour_logprobs, abs=0.006)
        expected = f"{texts[one['p']]}?{rollout.response}#{consultation.verdict} "
        assert texts[one["x"]].startswith(expected)


def test_the_experts_probability_of_each_token(
    campaign: Workspace, samples: dict[str, Any]
) -> None:
    rows = read_rows(campaign.feedback_dir(1), FEEDBACK)
    by_id = {one["id"]: one for one in samples["sets"]["rollouts"]}
    num_unstored = 0
    for row in rows:
        one, at = by_id[row.rollout_id], 0
        for position, (token, count) in enumerate(
            zip(row.response_ids, row.expert_counts, strict=True)
        ):
            ids = list(row.expert_ids[at : at + count])
            if token in ids:
                expected = row.expert_logprobs[at + ids.index(token)]
                assert position not in one["u"]
            else:
                expected = row.expert_tail_logprobs[position]
                assert position in one["u"]
                num_unstored += 1
            if np.isfinite(expected):
                assert one["l"][position] == pytest.approx(expected, abs=0.006)
            else:
                assert one["l"][position] is None
            assert one["h"][position] == pytest.approx(row.expert_logprobs[at], abs=0.006)
            at += count
    assert num_unstored, "a token that the expert did not store is among them"


def test_rollouts_with_turns(copy: Workspace) -> None:
    """The tool's tokens stand beside the policy's, which have the sampler's numbers and the
    expert's, token by token."""
    rollouts = read_rows(copy.rollouts_file(1), ROLLOUTS)
    plain = gather_samples(copy, 1, 1000)
    number = next(n for n, row in enumerate(rollouts) if len(row.response_ids) > 1)
    row = rollouts[number]
    written = [*row.response_ids[:1], 3, 4, *row.response_ids[1:]]
    said = (FeedbackItem("tool_output", "it is 5"),)
    first = TurnRow(1, 2, "stop", "ask", "5!", 0.25, None, said, True, None)
    last = TurnRow(len(written) - 3, 0, "stop", row.response, None, None, None, (), False, None)
    rollouts[number] = replace(row, response_ids=written, turns=(first, last))
    context = {"iteration": 1}
    write_table(copy.rollouts_file(1), ROLLOUTS, rollouts, context)
    table = [
        replace(one, response_ids=written, turn_lengths=[1, 2, len(written) - 3])
        if one.rollout_id == row.rollout_id
        else one
        for one in read_rows(copy.feedback_dir(1), FEEDBACK)
    ]
    shutil.rmtree(copy.feedback_dir(1))
    write_shards(copy.feedback_dir(1), FEEDBACK, [table], context)
    found = gather_samples(copy, 1, 1000)
    tokens = found["tokens"]
    one, before = found["sets"]["rollouts"][number], plain["sets"]["rollouts"][number]
    assert [tokens[t] for t in one["t"]] == [plain["tokens"][t] for t in before["t"]]
    for name in ("m", "l", "u", "h"):
        assert one[name] == before[name], name
    ((place, text),) = one["o"]
    assert place == 1
    assert text == "".join(load_tokenizer(copy.policy_dir(0)).decode([token]) for token in (3, 4))
    assert one["y"] == [
        ["ask", "5!", [["tool_output", "it is 5"]], 0.25, 1],
        [row.response, None, [], None, 0],
    ]
    others = [each for each in found["sets"]["rollouts"] if each is not one]
    assert all("y" not in each and "o" not in each for each in others)


def test_held_out_problems(campaign: Workspace, samples: dict[str, Any]) -> None:
    rows = read_rows(campaign.evaluation_file(1), EVALUATION)
    shown = samples["sets"]["evaluation"]
    assert [one["id"] for one in shown] == [row.problem_id for row in rows]
    for one, row in zip(shown, rows, strict=True):
        assert samples["texts"][one["p"]].endswith("=")
        assert (one["a"], one["v"], one["k"]) == (
            row.first_response,
            row.first_verdict,
            row.num_correct,
        )
        assert one["w"] == ([] if row.expert_response is None else [row.expert_response])


def test_as_far_as_there_are_tables(copy: Workspace) -> None:
    shutil.rmtree(copy.feedback_dir(1))
    copy.consultations_file(1).unlink()
    copy.evaluation_file(1).unlink()
    found = gather_samples(copy, 1, 5)
    assert list(found["sets"]) == ["rollouts"]
    assert found["totals"] == {"rollouts": 24}
    assert [one["v"] for one in found["sets"]["rollouts"]] == ["not judged"] * 5
    assert "l" not in found["sets"]["rollouts"][0]
    assert list(gather_samples(copy, 0, 5)["sets"]) == ["evaluation"]
    copy.rollouts_file(1).unlink()
    with pytest.raises(DataError, match=r"no tables of samples in data/iterations/001"):
        gather_samples(copy, 1, 5)


def test_the_page_is_of_the_last_iteration_that_sampled(copy: Workspace) -> None:
    listing: dict[str, Any] = {"iterations": {}, "evaluations": {}, "curves": {}}
    for number in range(4):
        settings = pipeline_scratch.params(number).model_dump(mode="json")
        copy.frozen_params_file(number).parent.mkdir(exist_ok=True)
        copy.frozen_params_file(number).write_text(yaml.safe_dump(settings))
        for section in ("iterations", "evaluations") if number else ("evaluations",):
            listing[section][f"{number:03d}"] = {}
    copy.iterations_file.write_text(yaml.safe_dump(listing))
    path, counts = write_samples(copy)
    assert (path, counts) == (copy.samples_file, {"rollouts": 24, "evaluation": 16})
    found = re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found
    assert json.loads(found[1]) == gather_samples(copy, 2, 5000)
    elsewhere = copy.root / "out" / "page.html"
    elsewhere.parent.mkdir()
    assert write_samples(copy, 1, elsewhere, 3) == (elsewhere, {"rollouts": 3, "evaluation": 3})
    with pytest.raises(ConfigError, match="iteration 9 does not exist: the campaign has 0 to 3"):
        write_samples(copy, 9)


def test_without_any_sample_it_says_what_to_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.iterations_file.write_text("iterations: {}\nevaluations: {}\ncurves: {}\n")
    with pytest.raises(ConfigError, match="no samples to look at yet"):
        write_samples(workspace)
