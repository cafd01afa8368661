"""Campaigns compared: what is read, refused and warned of, and what the figures are."""

from pathlib import Path

import pytest
from campaigns import NUM_PROBLEMS, NUM_ROLLOUTS, SECONDS_A_STAGE, make_campaign

from distil_core.compare.compared import Comparison, best, last, score_of
from distil_core.compare.sides import read_sides, side_text, workspaces_in
from distil_core.compare.words import conclusion
from distil_core.errors import ConfigError, DataError
from distil_core.evaluation.comparison import paired_differences
from distil_core.evaluation.over_seeds import mean_over_seeds
from distil_core.workspace import Workspace


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(*texts: str) -> Comparison:
    return Comparison(read_sides([side_text(text) for text in texts], Workspace(Path.cwd())))


def test_two_campaigns_are_paired_by_problem(tmp_path: Path) -> None:
    make_campaign(tmp_path / "a", [0.2, 0.5, 0.55])
    make_campaign(tmp_path / "b", [0.2, 0.8, 0.6], champion=1, train__learning_rate=0.25)
    comparison = compared("a", "b")
    [pair] = comparison.pairs
    ours, theirs = (side.runs[0].best.evaluation for side in reversed(comparison.sides))
    num_bootstrap = comparison.sides[0].runs[0].settings["evaluate"]["num_bootstrap"]
    expected = paired_differences(ours, theirs, num_bootstrap, 1)["pass_at_1"]
    found = pair.best.scores["pass_at_1"]
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert (pair.best.shared, pair.best.num_problems) == ("problems", NUM_PROBLEMS)
    assert [run.best.number for side in comparison.sides for run in side.runs] == [2, 1]
    assert list(pair.by_iteration) == [0, 1, 2]
    assert [(c.path, c.after) for c in pair.settings] == [("train.learning_rate", "0.25")]
    assert pair.warnings == []
    assert "b against a, best policies: pass@1 +0." in conclusion(comparison)[0]
    assert "better, beyond the 95% interval" in conclusion(comparison)[0]


def test_what_a_campaign_cost(tmp_path: Path) -> None:
    make_campaign(tmp_path / "a", [0.2, 0.5, 0.4], champion=1)
    [side] = compared("a").sides
    [run] = side.runs
    assert run.rollout_tokens(2) == 2 * NUM_ROLLOUTS * 5
    assert run.seconds(0) == 3 * SECONDS_A_STAGE
    assert run.seconds(2) == (3 + 2 * 6) * SECONDS_A_STAGE
    Workspace(tmp_path / "a").timings_file(1).unlink()
    [run] = compared("a").sides[0].runs
    assert run.seconds(0) == 3 * SECONDS_A_STAGE
    assert run.seconds(1) is None
    assert run.seconds(2) is None


def test_seeds_of_two_settings_are_paired_by_seed(tmp_path: Path) -> None:
    for name, gain in (("a", 0.5), ("b", 0.8)):
        for seed in (4, 5, 6):
            make_campaign(
                tmp_path / name / f"seed-{seed}", [0.2, gain + seed / 200], seed, 50 * (seed - 4)
            )
    comparison = compared("plain=a", "new=b")
    assert [side.label for side in comparison.sides] == ["plain", "new"]
    assert [side.seeds for side in comparison.sides] == [[4, 5, 6]] * 2
    [pair] = comparison.pairs
    assert pair.best.shared == "seeds"
    new, old = (
        [run.last.metrics["pass_at_1"] for run in side.runs]
        for side in (comparison.sides[1], comparison.sides[0])
    )
    differences = [one - other for one, other in zip(new, old, strict=True)]
    expected = mean_over_seeds(differences)
    found = pair.last.scores["pass_at_1"]
    assert found.value == pytest.approx(expected.value)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    mean = score_of(comparison.sides[1], "pass_at_1", last)
    assert mean == mean_over_seeds(new).within(0, 1)


def test_a_single_run_has_its_interval_over_problems(tmp_path: Path) -> None:
    make_campaign(tmp_path / "a", [0.2, 0.5])
    [side] = compared("a").sides
    metrics = side.runs[0].best.metrics
    score = score_of(side, "pass_at_1", best)
    assert score
    assert (score.value, score.low) == (metrics["pass_at_1"], metrics["pass_at_1_low"])
    assert score_of(side, "no_such_figure", best) is None


def test_places_may_be_listed(tmp_path: Path) -> None:
    for seed in (1, 2):
        make_campaign(tmp_path / f"w{seed}", [0.2, 0.5], seed)
    [side] = compared("both=w1,w2").sides
    assert (side.label, side.seeds) == ("both", [1, 2])


def test_folders_are_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        folder = tmp_path / f"seed-{number}"
        folder.mkdir()
        for name in ("dvc.yaml", "iterations.yaml"):
            (folder / name).touch()
    (tmp_path / "notes").mkdir()
    found = [each.root.name for each in workspaces_in(tmp_path)]
    assert found == ["seed-9", "seed-10", "seed-100"]


def test_a_seed_counts_once(tmp_path: Path) -> None:
    make_campaign(tmp_path / "a", [0.2, 0.5])
    make_campaign(tmp_path / "b", [0.2, 0.6])
    with pytest.raises(ConfigError, match=r"seed 1 is there twice \(a, b\)"):
        compared("both=a,b")


@pytest.mark.parametrize("place", ["nowhere", "empty", "a@no-such-tag", "--all"])
def test_a_place_that_is_none_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    make_campaign(tmp_path / "a", [0.2, 0.5])
    with pytest.raises(ConfigError, match=r"Expected \[LABEL=\]PLACE"):
        compared(place)


def test_a_campaign_that_has_finished_nothing_is_named(tmp_path: Path) -> None:
    workspace = make_campaign(tmp_path / "a", [0.2, 0.5])
    (workspace.root / "dvc.lock").unlink()
    with pytest.raises(DataError, match=r"^a: .* nothing to compare yet\. iteration 0"):
        compared("a")


def test_what_is_not_alike_is_warned_of(tmp_path: Path) -> None:
    make_campaign(tmp_path / "a", [0.2, 0.5])
    verifier = {"name": "final_number", "options": {}}
    make_campaign(tmp_path / "b", [0.2, 0.5], evaluate__temperature=0.5, consult__verifier=verifier)
    [pair] = compared("a", "b").pairs
    assert any("drawn otherwise: temperature 0.5 instead of 1.0" in text for text in pair.warnings)
    assert any("another verifier" in text for text in pair.warnings)


def test_seeds_with_other_settings_are_warned_of(tmp_path: Path) -> None:
    make_campaign(tmp_path / "w1", [0.2, 0.5, 0.6], 1)
    make_campaign(tmp_path / "w2", [0.2, 0.5], 2, train__learning_rate=0.25)
    comparison = compared("both=w1,w2", "w1")
    text = " ".join(comparison.pairs[0].warnings)
    assert "seeds 1 and 2 differ in more than the seed: train.learning_rate" in text
    assert "unequally many iterations (2 of seed 1, 1 of seed 2)" in text
    assert comparison.pairs[0].best.shared == "nothing, one run"
    assert "cannot tell whether other seeds would agree" in conclusion(comparison)[0]


def test_labels_are_told_apart(tmp_path: Path) -> None:
    make_campaign(tmp_path / "a", [0.2, 0.5])
    assert [side.label for side in compared("a/", "a").sides] == ["a (1)", "a (2)"]


def test_a_side_alone_is_its_mean(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        make_campaign(tmp_path / "seeds" / f"seed-{seed}", [0.2, 0.5], seed)
    comparison = compared("seeds")
    assert comparison.pairs == []
    first, second = conclusion(comparison)
    assert first.startswith("pass@1 of the champions of 3 seeds: mean 0.")
    assert second.startswith("pass@4")
