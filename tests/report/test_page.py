"""The report's page: whole, self-contained, and honest about what was not measured (3 s)."""

import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from distil_core.campaign.load import parse_iteration_params
from distil_core.checks.limits import findings
from distil_core.evaluation.comparison import Difference
from distil_core.evaluation.decision import GateDecision
from distil_core.evaluation.hindsight import TokenCosts
from distil_core.evaluation.summary import summarise
from distil_core.lineage.evidence.inputs import Artifact
from distil_core.lineage.evidence.iteration import Evidence
from distil_core.lineage.frozen import flatten
from distil_core.report.gather import CampaignFacts, CreditMap, IterationFacts
from distil_core.report.page import render_report
from distil_core.tables.schemas import EVALUATION, EvaluationRow

PROJECT = Path(__file__).parents[2]
VOID = {"meta", "br", "line", "circle", "polyline", "polygon"}
HOSTILE = '<script>alert("x")</script>'


class Checked(HTMLParser):
    """Fails on tags that do not close in order, and notes every address and tag."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.add(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def evaluation(num_correct: int, asked: bool, harder: bool) -> list[EvaluationRow]:
    expert = {"expert_num_samples": 1, "expert_num_correct": 1, "expert_success_logprob": -0.1}
    expert["expert_success_student_logprob"] = -1.0
    return [
        EvaluationRow(
            problem_id=f"{split}{index}",
            split=split,
            num_samples=4,
            num_correct=min(4, max(0, num_correct + index % 3 - 1)),
            num_malformed=0,
            num_truncated=0,
            num_distinct=2,
            num_distinct_answers=2,
            majority_correct=1.0,
            response_tokens_mean=6.0,
            entropy_per_response=1.0,
            entropy_per_token=0.2,
            first_response=HOSTILE,
            first_verdict="wrong",
            **(expert if asked and split == "eval" else {}),
        )
        for split in (("eval", "generalisation") if harder else ("eval",))
        for index in range(12)
    ]


def facts(
    iteration: int, num_correct: int, promoted: bool = True, asked: bool = True, harder: bool = True
) -> IterationFacts:
    values = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["evaluate"]["num_samples"] = 4
    values["gate"]["margins"] = {"pass_at_1": 0.02}
    if not asked:
        values["evaluate"]["num_expert_samples"] = 0
    values |= {"iteration": iteration, "stage_versions": {"train": 1}}
    rows = evaluation(num_correct, asked, harder)
    difference = {"pass_at_1": Difference(0.1 if promoted else -0.2, -0.3, 0.2)}
    decision = GateDecision(
        iteration=iteration,
        promoted=promoted,
        stopped=False,
        champion=iteration if promoted else iteration - 1,
        handed_over=iteration if promoted else iteration - 1,
        parent=iteration - 1,
        compared_with=iteration - 1,
        reasons="" if promoted else "pass_at_1 is worse",
        from_champion=difference,
        from_parent=difference,
    )
    roles = ("policy", "feedback", "rollouts")
    evidence = Evidence(
        campaign="chains",
        iteration=iteration,
        artifacts={role: Artifact(f"data/{role}", f"{iteration}" * 32, 1, "s") for role in roles},
        settings=flatten(values),
        expert=0,
        metrics=summarise(rows, 100, 1),
        decision=decision if iteration else None,
        finished_at_ms=0,
    )
    return IterationFacts(
        evidence,
        parse_iteration_params(values, "x"),
        pl.LazyFrame(rows, schema=pl.Schema(EVALUATION.arrow)),
        100 * iteration,
        {"train": 2.0},
    )


def campaign(*iterations: IterationFacts) -> CampaignFacts:
    count = len(iterations) - 1
    credit_map = CreditMap(
        iteration=1,
        rollout_id="001/a/0",
        prompt=HOSTILE,
        verdict="wrong",
        feedback=[("execution_trace", HOSTILE)],
        tokens=["0", " ", "\n", "⏎"],
        wanted=["1", " ", "\n", ""],
        costs=TokenCosts(
            np.array([0.5, 0.1, 0.0, 2.0]), np.array([2.1, 2.0, 2.0, 0.0]), np.ones(4, dtype=bool)
        ),
    )
    return CampaignFacts(
        name="chains",
        iterations=iterations,
        rollouts_read=512,
        losses_ji=np.linspace(1, 0.1, (count + 1) * count).reshape(count + 1, count),
        credit_maps=[credit_map] * bool(count),
        prompts={f"eval{index}": f"problem {HOSTILE} {index}" for index in range(12)},
    )


def checked(page: str) -> Checked:
    parser = Checked()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


FULL = campaign(facts(0, 1), facts(1, 3), facts(2, 2, promoted=False))


def test_it_needs_nothing_else() -> None:
    page = render_report(FULL)
    parser = checked(page)
    assert all(address.startswith("#") for address in parser.addresses)
    assert {address[1:] for address in parser.addresses} <= parser.ids
    assert not parser.tags & {"script", "link", "iframe", "object", "img"}
    for word in ("http:", "https:", "//cdn", "@import", "url(", "javascript:"):
        assert word not in page.lower()
    assert page.lstrip().startswith("<!DOCTYPE html>")


def test_what_an_environment_wrote_stands_between_tokens() -> None:
    (one, *_) = FULL.credit_maps
    answered = replace(one, answers={1: f"42 {HOSTILE}\n"})
    page = render_report(replace(FULL, credit_maps=[answered]))
    checked(page)
    assert HOSTILE not in page
    # Before the second token, in each of the three lines.
    assert len(re.findall(r'</span><span class="answer">42␣&lt;', page)) == 3
    assert 'class="answer"' not in render_report(FULL)


def test_content_is_escaped() -> None:
    page = render_report(FULL)
    assert HOSTILE not in page
    assert HOSTILE in checked(page).text


def test_it_tells_the_campaign_as_it_was() -> None:
    text = " ".join(checked(render_report(FULL)).text.split())
    assert "(iteration 1, the champion)" in text
    assert "Iteration 2 was not promoted : pass_at_1 is worse." in text.replace(
        "promoted:", "promoted :"
    )
    assert "Harder problems." in text
    assert "every_step_passes_zero: true" in text
    for words in ("Average regret", "Success bound", "future credit", "Worst regressions"):
        assert words in text
    assert "policy 2" in text


def test_the_same_facts_give_the_same_page() -> None:
    assert render_report(FULL) == render_report(FULL)


def test_what_was_not_measured_is_said() -> None:
    lean = campaign(facts(0, 1, asked=False, harder=False), facts(1, 3, asked=False, harder=False))
    text = " ".join(checked(render_report(lean)).text.split())
    assert "was not measured: evaluate.num_expert_samples is 0" in text
    assert "Generalisation" not in text
    untimed = replace(lean, iterations=[replace(f, seconds={}) for f in lean.iterations])
    assert "Against time." not in checked(render_report(untimed)).text


def test_an_expert_that_is_not_better_is_reported_as_such() -> None:
    strong = campaign(facts(0, 1), facts(1, 4))
    text = " ".join(checked(render_report(strong)).text.split())
    assert "At every iteration it is better" in text
    weak = facts(1, 4)
    rows = [replace(row, expert_num_correct=0) for row in evaluation(4, asked=True, harder=True)]
    metrics = summarise(rows, 100, 1)
    weak = replace(weak, evidence=replace(weak.evidence, metrics=metrics))
    text = " ".join(checked(render_report(campaign(facts(0, 1), weak))).text.split())
    assert "At iteration 1 it is not shown to be better than the student" in text


def test_checks_of_the_tables_and_which_are_beyond_limits() -> None:
    text = " ".join(checked(render_report(FULL)).text.split())
    assert "All are within their limits." in text
    limits = parse_iteration_params(
        yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
        | {"iteration": 1, "stage_versions": {}, "checks": {"truncation_share": {"warn": 0.25}}},
        "x",
    ).checks
    cut = {"rollouts": {"rows": 64.0, "truncation_share": 0.5}}
    found = [replace(f, findings=findings(cut, limits)) for f in FULL.iterations[1:]]
    page = checked(render_report(replace(FULL, iterations=[FULL.iterations[0], *found])))
    text = " ".join(page.text.split())
    beyond = (
        "rollouts: truncation_share 0.500, expected at most 0.25 (checks.truncation_share.warn)"
    )
    assert f"Iteration 2: {beyond}." in text
    cells = text.replace(" ", "")
    assert "rolloutstruncation_share–0.5000.500" in cells
    assert "rolloutsrows–6464" in cells


def test_a_base_policy_alone() -> None:
    text = " ".join(checked(render_report(campaign(facts(0, 1)))).text.split())
    assert "0 iterations, none of which the improvement gate has promoted" in text
    assert "No iteration has trained yet." in text


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium (Debian: chromium)")
@pytest.mark.parametrize(("scheme", "is_dark"), [("0", True), ("1", False)])
def test_a_browser_shows_it_light_and_dark(tmp_path: Path, scheme: str, is_dark: bool) -> None:
    (tmp_path / "report.html").write_text(render_report(FULL), encoding="utf-8")
    subprocess.run(
        [
            "chromium",
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--window-size=500,900",
            f"--screenshot={tmp_path / 'page.png'}",
            f"file://{tmp_path / 'report.html'}",
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    width, height, first_pixel = png_facts((tmp_path / "page.png").read_bytes())
    assert (width, height) == (500, 900)
    assert (max(first_pixel) < 60) == is_dark
    assert (min(first_pixel) > 230) == (not is_dark)


def png_facts(content: bytes) -> tuple[int, int, tuple[int, ...]]:
    """Width, height and the colour of the first pixel, which no filter changes."""
    width, height = struct.unpack(">II", content[16:24])
    data, place = b"", 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        if content[place + 4 : place + 8] == b"IDAT":
            data += content[place + 8 : place + 8 + length]
        place += 12 + length
    return width, height, tuple(zlib.decompress(data)[1:4])
