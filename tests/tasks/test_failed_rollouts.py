"""An engine that fails on single requests, and one that fails as a whole (20 s)."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from pipeline_scratch import params

from distil_core.errors import EngineError
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, EVALUATION, FEEDBACK, ROLLOUTS
from distil_core.tables.store import read_rows, read_table
from distil_core.workspace import Workspace
from distil_tasks import consult, evaluate, sample, tabulate, train

ENGINE = '''
"""The engine `transformers`, but for every n-th request."""

from distil_core.engines.base import SampledResponse
from distil_core.engines.transformers import Options as TransformersOptions
from distil_core.engines.transformers import build as build_transformers


class Options(TransformersOptions):
    fails_at: int


class FailingEngine:
    def __init__(self, engine, fails_at):
        self._engine, self._fails_at = engine, fails_at

    def sample(self, requests, settings, progress):
        responses = self._engine.sample(requests, settings, progress)
        return [
            SampledResponse.failed("its cache was lost") if number % self._fails_at == 1 else one
            for number, one in enumerate(responses)
        ]

    def score(self, requests, top_k, top_p, progress):
        return self._engine.score(requests, top_k, top_p, progress)


def build(options, policy_dir, compute):
    plain = TransformersOptions(batch_size=options.batch_size, layout=options.layout)
    return FailingEngine(build_transformers(plain, policy_dir, compute), options.fails_at)
'''


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings that name it by the dotted path of a module."""
    package = tmp_path / "code" / "failing_lab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "engine.py").write_text(ENGINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(package.parent))

    def settings(fails_at: int) -> dict[str, Any]:
        options = {"batch_size": 64, "fails_at": fails_at}
        return {"engine": {"name": "failing_lab.engine", "options": options}}

    return settings


def test_a_failed_rollout_is_a_row_with_its_error_in_every_stage(
    copy: Workspace, engine: Any
) -> None:
    """24 rollouts, of which numbers 1 and 21 fail; 64 responses of the evaluation, of which 1, 21,
    41 and 61 fail, on four of 16 problems."""
    before = read_rows(copy.rollouts_file(1), ROLLOUTS)
    failing = params(1, sample=engine(20))
    for stage in (sample, consult, tabulate, train, evaluate):
        stage.body(copy, failing, no_progress)
    rollouts = read_rows(copy.rollouts_file(1), ROLLOUTS)
    failed = [number for number, row in enumerate(rollouts) if row.error is not None]
    assert failed == [1, 21]
    assert [row for row in rollouts if row.error is None] == [
        row for number, row in enumerate(before) if number not in failed
    ]
    lost = rollouts[1]
    assert (lost.finish_reason, lost.error) == ("error", "its cache was lost")
    assert (lost.response_ids, lost.behaviour_logprobs, lost.response) == ([], [], "")
    assert (lost.context_ids, lost.seed) == (before[1].context_ids, before[1].seed)
    consulted = read_rows(copy.consultations_file(1), CONSULTATIONS)[1]
    assert (consulted.reward, consulted.verdict, consulted.error) == (None, "error", lost.error)
    table, context = read_table(copy.feedback_dir(1), FEEDBACK)
    assert (table.num_rows, context["num_without_verdict"]) == (22, 2)
    with copy.train_curve_file(1).open(encoding="utf-8") as file:
        assert {row["without_verdict"] for row in csv.DictReader(file)} == {"2"}
    evaluation = read_rows(copy.evaluation_file(1), EVALUATION)
    assert [row.num_samples for row in evaluation].count(3) == 4
    assert all(row.response_tokens_mean >= 1 for row in evaluation)
    metrics = json.loads(copy.metrics_file(1).read_text())
    assert metrics["num_without_verdict"] + metrics["generalisation_num_without_verdict"] == 4


def test_an_engine_that_fails_on_many_requests_ends_the_stage(copy: Workspace, engine: Any) -> None:
    before = copy.rollouts_file(1).read_bytes()
    with pytest.raises(EngineError, match=r"failed on 12 of 24 requests, at most 2 .*cache was"):
        sample.body(copy, params(1, sample=engine(2)), no_progress)
    assert copy.rollouts_file(1).read_bytes() == before
    with pytest.raises(EngineError, match=r"failed on 32 of 64 requests"):
        evaluate.body(copy, params(1, sample=engine(2)), no_progress)
