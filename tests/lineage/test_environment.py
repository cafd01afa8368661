"""How a snapshot names the package that it was made with."""

from pathlib import Path

import pytest

from distil_core.lineage import environment


def test_a_link_to_nowhere_is_no_file_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Editors leave such links beside a file that they have open."""
    folder = tmp_path / "measured_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("ONE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(environment, "_PACKAGES", (folder.name,))
    before = environment.package.__wrapped__()
    (folder / ".#__init__.py").symlink_to("somebody@somewhere.1234")
    assert environment.package.__wrapped__() == before
    (folder / "__init__.py").write_text("ONE = 2\n")
    assert environment.package.__wrapped__() != before
