"""The checks of an engine find a past that is not what was read (20 s)."""

from pathlib import Path

import pytest

from distil_core.testing import run_checks
from distil_core.testing.engines import engine_checks

FORGETFUL = '''"""It goes on from the last tokens only."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from distil_core.config.models import ComputeParams
from distil_core.engines import transformers
from distil_core.engines.base import EngineOptions


class Options(EngineOptions):
    """None."""


class Engine:
    def __init__(self, engine, num_known=None):
        self.engine, self.num_known, self.score = engine, num_known, engine.score

    def sample(self, requests, settings, progress):
        if self.num_known:
            cut = lambda one: replace(one, context_ids=one.context_ids[-self.num_known:])
            requests = [cut(one) for one in requests]
        return self.engine.sample(requests, settings, progress)

    @contextmanager
    def continuing(self):
        yield Engine(self.engine, {num_known})


def build(options: Options, policy_dir: Path, compute: ComputeParams):
    return Engine(transformers.build(transformers.Options(batch_size=8), policy_dir, compute))
'''


@pytest.mark.parametrize(("num_known", "is_found"), [(200, False), (30, True)])
def test_a_past_that_is_cut_is_found(
    num_known: int, is_found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contexts of a second turn have more than 30 tokens, and less than 200."""
    package = tmp_path / f"knows_{num_known}"
    package.mkdir()
    text = FORGETFUL.replace("{num_known}", str(num_known))
    (package / "forgetful.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    results = run_checks(engine_checks(f"{package.name}.forgetful"))
    failed = {str(one.check): one.detail for one in results if one.outcome == "failed"}
    name = "turns that continue others are as if their contexts were read anew"
    assert list(failed) == ([name] if is_found else []), failed
