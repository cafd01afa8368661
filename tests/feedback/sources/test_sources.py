"""Sources of feedback: one's own among them, gathered in one way for consult and evaluation."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign.load import parse_iteration_params
from distil_core.config.models import Component, ConsultParams
from distil_core.errors import ConfigError
from distil_core.feedback.sources import SOURCES, gather, known_kinds
from distil_core.feedback.sources.base import Attempt, FeedbackSource, SourceSetting
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.verifiers.base import FeedbackItem

PROJECT = Path(__file__).parents[3]
SOURCE = '''
"""How long the attempt is, and a gift where options say so."""

from distil_core.feedback.sources.base import FeedbackSourceOptions, SourceFeedback
from distil_core.verifiers.base import FeedbackItem


class Options(FeedbackSourceOptions):
    kinds = ("length_hint",)
    shows_reference = {shows_reference}

    unit: str


class LengthHint:
    def __init__(self, unit):
        self._unit = unit

    def gather(self, attempts, asked, setting):
        items = {{
            one.name: (FeedbackItem("length_hint", f"{{len(one.response)}} {{self._unit}}"),)
            for one in asked
            if one.response
        }}
        return SourceFeedback(items, {{"num_hinted": len(items)}})


def build(options):
    return LengthHint(options.unit)
'''
HINT = {"name": "hint_lab.length", "options": {"unit": "characters"}}
PEER, REFERENCE = Component(name="peer_solution"), Component(name="reference_correction")


@pytest.fixture
def hint_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the source; a module of its own each time, as Python imports it once."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(shows_reference: bool = False) -> Component:
        package = tmp_path / f"hint_lab_{shows_reference}"
        package.mkdir()
        (package / "__init__.py").touch()
        text = SOURCE.format(shows_reference=shows_reference)
        (package / "length.py").write_text(text, encoding="utf-8")
        return Component(**{**HINT, "name": f"{package.name}.length"})

    yield write
    for name in [name for name in sys.modules if name.startswith("hint_lab")]:
        del sys.modules[name]


def attempts_at(problem: Problem, responses: Sequence[tuple[str, str]]) -> list[Attempt]:
    trace = FeedbackItem("execution_trace", "said")
    return [
        Attempt(f"{problem.prompt}/{index}", problem, response, verdict, (trace,))
        for index, (response, verdict) in enumerate(responses)
    ]


def setting() -> SourceSetting:
    return SourceSetting(1, lambda: pytest.fail("nobody asks the policy"), no_progress)


def consult(**changes: Any) -> ConsultParams:
    verifier = {"name": "chain_arithmetic", "options": {"modulus": 3}}
    return ConsultParams(**{"verifier": verifier, "reveal": "expected_outputs", **changes})


def test_settings_say_which_sources_there_are_in_which_order() -> None:
    own = {
        "template": "{attempt}?",
        "correct_pattern": "yes",
        "on_disagreement": "keep",
        "max_new_tokens": 3,
        "temperature": 1.0,
        "top_p": 1.0,
    }
    assert [one.name for one in consult().sources] == ["verifier"]
    everything = consult(
        self_evaluation=own, peer_solution=True, reference_correction=True, feedback_sources=[HINT]
    )
    names = ["verifier", "reference_correction", "peer_solution", "self_evaluation"]
    assert [one.name for one in everything.sources] == [*names, "hint_lab.length"]
    assert everything.sources[3].options == own
    # Those that were frozen before there was such a setting are frozen as they were.
    assert "feedback_sources" not in consult().model_dump()
    assert everything.model_dump(mode="json")["feedback_sources"] == [HINT]


def test_sources_are_joined_in_order_of_the_attempts_asked_about(hint_lab: Any) -> None:
    one = attempts_at(Problem("1+1=", "2"), [("2", "correct"), ("3", "wrong"), ("", "malformed")])
    two = attempts_at(Problem("1+2=", "0"), [("", "wrong")])
    sources = [Component(name="verifier"), REFERENCE, PEER, hint_lab()]
    gathered = gather(sources, [*one, *two], [two[0], one[1]], setting())
    assert [[(item.kind, item.text) for item in items] for items in gathered.items] == [
        [("execution_trace", "said"), ("expert_correction", "0")],
        [
            ("execution_trace", "said"),
            ("expert_correction", "2"),
            ("peer_solution", "2"),
            ("length_hint", "1 characters"),
        ],
    ]
    assert gathered.report == {"num_with_peer": 1, "num_hinted": 1}


def test_feedback_on_an_attempt_depends_on_no_order(hint_lab: Any) -> None:
    attempts = attempts_at(Problem("1+1=", "2"), [(str(n), "correct") for n in range(6)])
    sources = [PEER, hint_lab()]
    forward = gather(sources, attempts, attempts, setting()).items
    backward = gather(sources, attempts[::-1], attempts[:2], setting()).items
    assert {item.text for items in forward for item in items} > {"1 characters"}
    assert len(backward) == 2
    assert [items[1:] for items in backward] == [items[1:] for items in forward[:2]]


def test_two_sources_that_report_by_one_name_are_refused() -> None:
    attempts = attempts_at(Problem("1+1=", "2"), [("2", "correct")])
    with pytest.raises(ConfigError, match=r"'peer_solution' reports num_with_peer, which another"):
        gather([PEER, PEER], attempts, attempts, setting())


def campaign(own: Component | None, template: str, **context: Any) -> Any:
    values = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["context"] |= {"expert_template": template, **context}
    if own is not None:
        values["consult"]["feedback_sources"] = [own.model_dump()]
    return parse_iteration_params({**values, "iteration": 1, "stage_versions": {}}, "t")


def test_templates_name_what_the_campaigns_own_sources_give(hint_lab: Any) -> None:
    template = "{prompt}?{attempt}#{execution_trace} {length_hint}|"
    shorten = [{"field": "length_hint", "keep": "start"}]
    component = hint_lab()
    assert "length_hint" not in known_kinds()
    assert "length_hint" in known_kinds([component])
    assert campaign(component, template, shorten=shorten).consult.sources[-1] == component
    with pytest.raises(ConfigError, match=r"expert_template: unknown field \['length_hint'\]"):
        campaign(None, template)
    with pytest.raises(ConfigError, match=r"context.shorten: unknown field \['length_hint'\]; kno"):
        campaign(None, "{prompt}#{execution_trace}|", shorten=shorten)


def test_a_source_that_shows_the_reference_needs_leave_to(hint_lab: Any) -> None:
    with pytest.raises(ConfigError, match=r"hint_lab_True.length' shows the hidden answer"):
        campaign(hint_lab(shows_reference=True), "{prompt}#{execution_trace}|")


def test_options_of_a_source_are_checked(hint_lab: Any) -> None:
    wrong = hint_lab().model_copy(update={"options": {}})
    with pytest.raises(ConfigError, match=r"options of feedback source 'hint_lab_.*unit"):
        campaign(wrong, "{prompt}#{execution_trace}|")


@pytest.mark.parametrize("name", SOURCES.names())
def test_every_built_in_source_says_what_it_gives(name: str) -> None:
    kinds = SOURCES.module(name).Options.kinds
    assert kinds
    assert set(kinds) <= known_kinds()
    assert all(kind.isidentifier() for kind in kinds)


def test_what_asks_no_policy_starts_without_torch() -> None:
    """`consult` and each retry of it: seconds."""
    program = (
        "import sys; from distil_core.feedback.sources import known_kinds; known_kinds(); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PROJECT)


def test_the_contract_is_that_of_the_registry() -> None:
    assert SOURCES.built is FeedbackSource
    assert SOURCES.signature == "def build(options: Options) -> FeedbackSource"
