"""The made distributions, and what each way of storing them keeps (10 s)."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.feedback_table.distributions import make_distributions
from benchmarks.feedback_table.errors import errors
from benchmarks.feedback_table.formats import FORMATS, TOP_P, feedback_rows, num_bytes
from distil_core.tables.rounding import MAX_TOTAL_VARIATION

NUM_POSITIONS = 1200


def test_the_distributions_are_as_described() -> None:
    found = make_distributions(NUM_POSITIONS, 20)
    mass = np.exp(found.logprobs_nk)
    assert np.all(mass.sum(1) <= 1 + 1e-9)
    assert np.all(np.diff(found.logprobs_nk) <= 0)
    assert np.median(mass[:, 0]) == pytest.approx(0.88, abs=0.03)
    assert np.quantile(mass[:, 0], 0.1) == pytest.approx(0.45, abs=0.05)
    again = make_distributions(NUM_POSITIONS, 20)
    assert np.array_equal(found.ids_nk, again.ids_nk)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_written_and_read(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    form.write(make_distributions(NUM_POSITIONS, 5), tmp_path / "table")
    form.read(tmp_path / "table")
    found = num_bytes(tmp_path / "table")
    assert 0 < found["distribution_bytes"] <= found["bytes"]
    assert (found["distribution_bytes"] < found["bytes"]) == (name in TOP_P)


@pytest.mark.parametrize("name", TOP_P)
def test_what_is_lost_stays_within_what_was_allowed(name: str) -> None:
    top_p, compact = TOP_P[name]
    found = make_distributions(NUM_POSITIONS, 20)
    lost = errors(found, feedback_rows(found, top_p, compact))
    allowed = 1e-6 + (1 - top_p) + compact * MAX_TOTAL_VARIATION
    assert 0 < lost["variation_mean"] < lost["variation_max"] <= allowed
    assert 0 < lost["gradient"] < 10 * allowed
