"""Environment variables set for a while."""

import contextlib
import os

import pytest

from distil_core.process_variables import variables_set


def test_what_was_set_and_what_was_not_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTIL_THERE", "before")
    monkeypatch.delenv("DISTIL_NEW", raising=False)
    with contextlib.suppress(KeyError), variables_set({"DISTIL_THERE": "now", "DISTIL_NEW": "now"}):
        assert (os.environ["DISTIL_THERE"], os.environ["DISTIL_NEW"]) == ("now", "now")
        raise KeyError
    assert os.environ["DISTIL_THERE"] == "before"
    assert "DISTIL_NEW" not in os.environ
