"""A seeded part of `python -m benchmarks.faults`: one small campaign, some faults (about 80 s)."""

from pathlib import Path
from random import Random

import pytest

from benchmarks.faults.__main__ import table
from benchmarks.faults.kinds import KINDS
from benchmarks.faults.scene import FLOW, REPRO, TASK, NotInjectedError, Reference, Scene


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The undisturbed campaign."""
    return Reference(tmp_path_factory.mktemp("faults") / "undisturbed")


@pytest.mark.parametrize(
    ("kind", "stage", "door"),
    [
        ("SIGKILL", "train@001", TASK),
        ("flipped byte", "evaluate@001", TASK),
        ("full disk", "evaluate@001", TASK),
        ("stale rwlock", "tabulate@001", REPRO),
        ("Prefect server down", "gate@001", FLOW),
    ],
)
def test_survives(reference: Reference, tmp_path: Path, kind: str, stage: str, door: str) -> None:
    random = Random(f"{kind}/{stage}/{door}")
    scene = Scene(reference, tmp_path / "workspace", stage, door, random)
    try:
        KINDS[kind][0](scene)
    except NotInjectedError as error:
        pytest.skip(str(error))
    finally:
        scene.remove()


def test_the_table_counts_by_kind() -> None:
    found = [
        ("SIGKILL", "survived", 10.0),
        ("full disk", "skipped", 1.0),
        ("SIGKILL", "NOT SURVIVED", 30.0),
    ]
    assert table(found).splitlines()[2:] == [
        "| SIGKILL | 2 | 1 | 0 | 20 |",
        "| full disk | 0 | 0 | 1 | 1 |",
        "| **all** | 2 | 1 | 1 | 10 |",
    ]
