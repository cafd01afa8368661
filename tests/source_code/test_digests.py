"""Digests of code: by what it does."""

from pathlib import Path

import pytest

from distil_core.source_code import code_digest

SOURCE = '''\
"""What it is."""

SCALE = 1.5
"""What it scales."""


class Thing:
    """A thing."""

    def scaled(self, x: float, *, twice: bool = False) -> float:
        """Scaled."""
        return SCALE * x if not twice else 2 * SCALE * x
'''


def digest(folder: Path, source: str, name: str = "m") -> str:
    file = folder / "m.py"
    file.write_text(source)
    return code_digest({name: file})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""What it is."""', '"""Something else."""'),
        ('"""What it scales."""\n', ""),
        ('        """Scaled."""\n', "        # a note\n"),
        ("SCALE = 1.5", "SCALE = (1.50)  # as measured"),
        ("\n\nclass", "\n\n\n\nclass"),
        (
            "x: float, *, twice: bool = False",
            "\n        x: float,\n        *,\n        twice: bool = False,\n    ",
        ),
    ],
)
def test_other_words_are_the_same_code(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOURCE
    assert digest(tmp_path, SOURCE.replace(old, new)) == digest(tmp_path, SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.5", "1.6"),
        ("1.5", "'1.5'"),
        ("2 * SCALE", "3 * SCALE"),
        ("twice: bool = False", "twice: bool = True"),
        ("not twice", "twice"),
        ("def scaled", "def scales"),
        ("SCALE * x if", "x * SCALE if"),
        ("x: float", "x: int"),
    ],
)
def test_other_code_is_not(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOURCE
    assert digest(tmp_path, SOURCE.replace(old, new)) != digest(tmp_path, SOURCE)


def test_the_name_of_a_module_and_its_place_among_others_count(tmp_path: Path) -> None:
    assert digest(tmp_path, SOURCE, "a") != digest(tmp_path, SOURCE, "b")
    for name, text in (("one", "X = 1\n"), ("two", "X = 2\n")):
        (tmp_path / f"{name}.py").write_text(text)
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    assert code_digest({"a": one, "b": two}) == code_digest({"b": two, "a": one})
    assert code_digest({"a": one, "b": two}) != code_digest({"a": two, "b": one})


def test_what_does_not_parse_counts_by_its_bytes(tmp_path: Path) -> None:
    assert digest(tmp_path, "def f(:\n") != digest(tmp_path, "def f( :\n")


def test_it_is_the_same_with_every_python(tmp_path: Path) -> None:
    """A frozen digest outlives the Python that made it: a fixed value."""
    assert digest(tmp_path, SOURCE) == "c8159cd1cc01bdf9"
