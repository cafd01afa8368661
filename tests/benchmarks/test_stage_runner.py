"""Our runner of stages beside DVC's: both record the same, only ours holds what it has to. 60 s."""

from collections.abc import Iterator

import pytest

from benchmarks.stage_runner import OUTCOMES, PROBES, Campaign, campaign, measure, row
from distil_core.lineage.dvc.lock import lock_file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    with campaign(tmp_path_factory.mktemp("runner"), 1) as made:
        yield made


def test_both_runners_record_the_same(made: Campaign) -> None:
    before = lock_file(made.workspace).read_bytes()
    for outcome in OUTCOMES:
        found = measure(made, 1, outcome, repeats=1)
        assert set(found) == {"ours", "dvcs"}
        assert all(seconds > 0 for seconds, _ in found.values())
        assert lock_file(made.workspace).read_bytes() == before


def test_ours_holds_what_a_runner_has_to(made: Campaign) -> None:
    assert [probe(made, made.ours) for _, probe in PROBES] == ["yes"] * len(PROBES)


def test_what_is_measured_of_dvcs_is_not_so(made: Campaign) -> None:
    """Where this fails, DVC has learned something: measure anew."""
    found = [probe(made, made.dvcs) for _, probe in PROBES]
    assert [answer[:3].strip(",") for answer in found] == ["no", "no", "no", "no", "yes"]


def test_a_row_of_the_table() -> None:
    found = row(40, "ran", {"ours": (0.5, 0.25), "dvcs": (2.0, 1.0)})
    assert found == ["40", "ran", "0.50", "2.00", "+1.50", "4.0", "0.25", "1.00", "4.0"]
