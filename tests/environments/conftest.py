"""Fixtures of the tests of environments."""

from pathlib import Path

import pytest

from benchmarks import verifiers_plugins


@pytest.fixture(autouse=True)
def _lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environments of these tests can be imported, in worker processes too."""
    for folder in (str(Path(__file__).parent), *verifiers_plugins.__path__):
        monkeypatch.syspath_prepend(folder)
