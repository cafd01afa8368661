"""What an iteration takes beside its stages' own work: the arithmetic of it, without a campaign."""

import pytest

from benchmarks.orchestration import NEIGHBOURS, PARTS, medians, split, table


def test_the_parts_add_up_to_the_iteration() -> None:
    parts = split(total=10.0, cpu=7.5, stages=8.0, bodies=6.0, snapshot=0.25, mlflow=1.0)
    assert parts["dvc"] == 2.0
    assert parts["prefect"] == 0.75
    assert parts["added_cpu"] == 1.5
    assert sum(parts[part] for part in PARTS) == 10.0


def test_processor_seconds_that_waiting_bodies_did_not_use_are_not_negative() -> None:
    assert split(5.0, 2.0, 4.0, 3.0, 0.0, 0.0)["added_cpu"] == 0.0


def test_each_part_has_a_median_of_its_own() -> None:
    assert NEIGHBOURS == 3
    rows = {
        number: dict.fromkeys((*PARTS, "added_cpu"), 0.0) | {"dvc": dvc, "mlflow": mlflow}
        for number, dvc, mlflow in ((1, 99.0, 99.0), (2, 3.0, 1.0), (3, 1.0, 9.0), (4, 2.0, 5.0))
    }
    found = medians(rows, 2)
    assert (found["dvc"], found["mlflow"], found["prefect"]) == (2.0, 5.0, 0.0)
    with pytest.raises(KeyError):
        medians(rows, 3)


def test_the_ratio_is_what_repro_adds_to_what_the_flow_adds() -> None:
    parts = split(total=10.0, cpu=7.5, stages=8.0, bodies=6.0, snapshot=0.25, mlflow=1.0)
    *_, row = table([{"history": 10, "repro": 12.0, **parts}]).splitlines()
    assert row == ("| 10 | 2.00 | 0.25 | 1.00 | 0.75 | **4.00** | 1.50 | 12.00 | 3.0 | 6.00 |")
