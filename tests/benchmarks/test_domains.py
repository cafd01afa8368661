"""The benchmark of the presets: what names a result, what is measured, what is reported (5 s)."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.domains.__main__ import DOMAINS, main
from benchmarks.domains.beside import BESIDE, beside, beside_table
from benchmarks.domains.campaign import PRESETS, Run, measured, preset_seed
from benchmarks.domains.report import write_report
from distil_core.campaign import parse_params
from distil_core.campaign.extends import read_settings
from distil_core.campaign.overrides import overridden, parse_overrides
from distil_core.errors import DataError, DistilError


def result(run: Run, start: float, end: float) -> dict[str, Any]:
    """As `execute` writes it, of a campaign of one iteration."""
    curve = [
        {
            "pass_at_1": value,
            "pass_at_1_low": value - 0.02,
            "pass_at_1_high": value + 0.02,
            "pass_at_8": value + 0.1,
            "pass_at_8_low": value + 0.05,
            "pass_at_8_high": value + 0.15,
            "malformed_rate": 0.25,
            "response_tokens_mean": 4.0,
            "num_problems": 16,
            "num_samples": 8,
        }
        for value in (start, end)
    ]
    return {
        "domain": run.domain,
        "seed": run.seed,
        "cpu_s": 100.0 + run.seed % 2,
        "wall_s": 200.0,
        "peak_memory_mb": 1500.0,
        "curve": curve,
        "stage_seconds": [{"base": 60.0, "evaluate": 1.5}, {"train": 5.0}],
        "expert": {
            "with its feedback": {"all_states": 0.99, "at_errors": 0.98},
            "without feedback": {"all_states": 0.5, "at_errors": 0.1},
        },
    }


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_run_is_the_preset_with_its_seed(domain: str, tmp_path: Path) -> None:
    import yaml

    own, other = (yaml.safe_load(Run(domain, seed).settings()) for seed in (preset_seed(domain), 7))
    assert own == yaml.safe_load((PRESETS / f"{domain}.yaml").read_text())
    assert other == own | {"seed": 7}
    parse_params(other, "test")
    assert Run(domain, 7).file(tmp_path) != Run(domain, 8).file(tmp_path)
    assert Run(domain, 7).result(tmp_path) is None


def test_what_a_command_costs_ismeasured(tmp_path: Path) -> None:
    program = "import time; a = bytearray(10**8); s = time.process_time()\n"
    program += "while time.process_time() - s < 1: pass\ntime.sleep(1.5)"
    cost = measured(("-c", program), tmp_path)
    assert 1 <= cost["cpu_s"] < 3
    assert cost["wall_s"] >= 2.5
    assert 100 < cost["peak_memory_mb"] < 400


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(DistilError, match=r"failed:\n.*no good"):
        measured(("-c", "import sys; sys.exit('no good')"), tmp_path)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "domains.md"
    file.write_text("before\n<!-- begin math -->\nold\n<!-- end math -->\nafter\n")
    return file


def test_the_report_fills_the_marked_place(document: Path) -> None:
    folder = document.parent / "results"
    folder.mkdir()
    runs = [Run("math", 1), Run("math", 2), Run("math", 3)]
    for run, end in zip(runs, (0.7, 0.8, 0.9), strict=True):
        run.file(folder).write_text(json.dumps(result(run, 0.3, end)))
    write_report({"math": runs}, folder, document)
    text = document.read_text()
    assert text.startswith("before\n<!-- begin math -->\n")
    assert text.endswith("<!-- end math -->\nafter\n")
    assert "old" not in text
    # Half the width is 4.303 * 0.1 / sqrt(3).
    assert "| 1 | 0.800 ± 0.248 | 0.700 [0.680, 0.720], 0.800 [0.780, 0.820], 0.9" in text
    assert "| 0 | 0.300 ± 0.000 |" in text
    write_report({"math": runs[:2]}, folder, document)
    assert "| 1 | 0.750 | 0.700 [0.680, 0.720], 0.800 [0.780, 0.820] |" in document.read_text()
    assert "| with its feedback | 0.9900 | 0.9800 |" in text
    assert "100 to 101 processor seconds" in text
    assert document.with_name("domains-math.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_without_runs_or_place_changes_nothing(document: Path) -> None:
    before = document.read_text()
    with pytest.raises(DataError, match=r"no finished run of the math preset"):
        write_report({"math": [Run("math", 1)]}, document.parent, document)
    run = Run("science", 1)
    run.file(document.parent).write_text(json.dumps(result(run, 0.3, 0.9)))
    with pytest.raises(DataError, match=r"expected a line '<!-- begin science -->'"):
        write_report({"science": [run]}, document.parent, document)
    assert document.read_text() == before


def test_finished_runs_are_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run("math", preset_seed("math"))
    run.file(tmp_path).write_text(json.dumps(result(run, 0.3, 0.9)))
    main(["--folder", str(tmp_path), "--domains", "math", "--seeds", "1"])
    assert capsys.readouterr().out == ""


def test_other_objectives_are_shown_beside_the_preset_by_seed(tmp_path: Path) -> None:
    runs = beside([Run("tools", 1), Run("tools", 2)])
    assert list(runs) == ["the preset", *BESIDE["tools"]]
    assert len({run.file(tmp_path) for same in runs.values() for run in same}) == 2 * len(runs)
    document = tmp_path / "domains.md"
    marks = "<!-- begin {0} -->\n<!-- end {0} -->\n"
    document.write_text(marks.format("tools") + marks.format("tools beside"))
    own = runs["the preset"]
    for name, same in runs.items():
        for run, end in zip(same, (0.8, 0.7), strict=True):
            lower = 0.0 if name == "the preset" else 0.1
            run.file(tmp_path).write_text(json.dumps(result(run, 0.3, end - lower)))
    write_report({"tools": own}, tmp_path, document, with_beside=True)
    lines = document.read_text().partition("begin tools beside")[2].splitlines()
    # Half the width is 12.706 * 0.0707 / sqrt(2).
    assert lines[4].startswith("| the preset | 0.750 ± 0.635 |")
    assert lines[5].startswith("| the reward alone (GRPO) | 0.650 ± 0.635 |")
    assert lines[5].endswith("| 4.0 ± 0.0 | -0.100 ± 0.000, -0.100 ± 0.000 |")
    assert lines[4].endswith("| 4.0 ± 0.0 |  |")
    own[0].file(tmp_path).unlink()
    with pytest.raises(DataError, match="seed 1, with its own settings"):
        beside_table(runs, tmp_path)


@pytest.mark.parametrize(
    ("domain", "settings"),
    [(domain, settings) for domain, named in BESIDE.items() for settings in named.values()],
)
def test_what_stands_beside_a_preset_is_settings_of_it(
    domain: str, settings: tuple[str, ...]
) -> None:
    preset = PRESETS / f"{domain}.yaml"
    changed = overridden(read_settings(preset, preset.name), parse_overrides(settings))
    parse_params(changed.values, "test")
