"""Fixtures of the tests of environments."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environments of these tests can be imported, in worker processes too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
