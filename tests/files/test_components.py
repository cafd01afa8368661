"""What a component's name leads to, and what is said of one that is none (2 s, and imports)."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distil_core.errors import ConfigError
from distil_core.objectives import OBJECTIVES
from distil_core.verifiers import VERIFIERS

VERIFIER = """
from distil_core.verifiers.base import Verification, Verifier, VerifierOptions

class Options(VerifierOptions):
    "None."

class Own(Verifier):
    def verify(self, problem, response):
        return Verification(1.0, "correct", ())

def build(options, reveal):
    return Own()
"""

Written = Callable[[str, str], str]


@pytest.fixture
def written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Written:
    """Write a module of a package that no other test has; returns its dotted path."""
    package = f"lab_{abs(hash(request.node.name)) % 10**9}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> str:
        (tmp_path / package / f"{name}.py").write_text(text, encoding="utf-8")
        return f"{package}.{name}"

    return write


def distribution(root: Path, name: str, group: str, entry: str) -> None:
    """What pip writes of an installed distribution, as far as entry points are read from it."""
    folder = root / f"{name}-1.2.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (folder / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")


def message(name: str, registry: Any = VERIFIERS, **arguments: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        registry.build(name, {}, **arguments)
    return str(raised.value)


def test_a_module_by_its_dotted_path(written: Written, tmp_path: Path) -> None:
    name = written("own", VERIFIER)
    found = VERIFIERS.resolve(name)
    assert (found.origin, found.module_name, found.distribution) == ("dotted_path", name, None)
    assert found.source_file == tmp_path / name.partition(".")[0] / "own.py"
    assert name not in sys.modules, "finding its file imports the packages around it alone"
    assert VERIFIERS.build(name, {}, reveal="nothing").verify(None, "").reward == 1.0  # type: ignore[arg-type]


def test_an_entry_point_of_an_installed_package(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = written("own", VERIFIER)
    distribution(tmp_path / "site", "their-lab", "distil.verifiers", f"theirs = {name}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = VERIFIERS.resolve("theirs")
    assert (found.origin, found.distribution, found.version) == ("entry_point", "their-lab", "1.2")
    assert found.module_name == name
    assert found.source_file.name == "own.py"


def test_a_built_in_one() -> None:
    found = OBJECTIVES.resolve("grpo")
    assert (found.origin, found.is_built_in) == ("built_in", True)
    assert found.source_file.parts[-3:] == ("distil_core", "objectives", "grpo.py")


def test_a_name_that_two_have_is_refused_with_both(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = written("own", VERIFIER)
    for folder, package, entry in (
        ("a", "first-lab", "theirs"),
        ("b", "second-lab", "theirs"),
        ("c", "third-lab", "final_number"),
    ):
        distribution(tmp_path / folder, package, "distil.verifiers", f"{entry} = {name}")
        monkeypatch.syspath_prepend(tmp_path / folder)
    two = message("theirs")
    assert "verifier 'theirs' is ambiguous" in two
    assert f"first-lab 1.2 ({name})" in two
    assert f"second-lab 1.2 ({name})" in two
    ours = message("final_number")
    assert "DistIL itself (distil_core.verifiers.final_number) and third-lab 1.2" in ours


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("theirs = {name}:build", "expected a module, such as '{name}'"),
        ("theirs = {name}s", "names the module '{name}s', which is not there"),
    ],
)
def test_an_entry_point_that_leads_nowhere(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, expected: str
) -> None:
    name = written("own", VERIFIER)
    distribution(tmp_path / "site", "their-lab", "distil.verifiers", entry.format(name=name))
    monkeypatch.syspath_prepend(tmp_path / "site")
    text = message("theirs")
    assert "an entry point of their-lab 1.2" in text
    assert expected.format(name=name) in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import math\nimport not_installed\n", r"No module named 'not_installed' \(.*own\.py, li"),
        ("def helper():\n    return 1 / 0\nhelper()\n", r"ZeroDivisionError.*own\.py, line 2\)"),
        ("x = (\n", r"SyntaxError: '\(' was never closed \(own\.py, line 1\)"),
        ("x = 1\n", r"has no Options; expected `class Options\(VerifierOptions\)`, .*distil_core"),
        (
            VERIFIER.replace("(VerifierOptions)", "").replace("def build", "def make"),
            r"its Options is the class Options\(object\); expected .*; it has no build; expected "
            r"`def build\(options: Options, reveal: Literal\['nothing', 'expected_outputs'\]\)",
        ),
        (
            VERIFIER.replace("build(options, reveal)", "build(options)"),
            r"its build\(options\) does not take what it is given \(got an unexpected keyword",
        ),
        (
            VERIFIER.replace('"None."', 'model_config = {"extra": "ignore"}'),
            r"its Options sets extra to 'ignore'; expected 'forbid', so that a misspelt option",
        ),
        (
            VERIFIER.replace("Own()", "dict()"),
            r"build returned dict, which is no Verifier \(it has no check_problem, close",
        ),
    ],
)
def test_a_module_that_is_no_verifier(written: Written, text: str, expected: str) -> None:
    name = written("own", text)
    with pytest.raises(ConfigError, match=expected) as raised:
        VERIFIERS.build(name, {}, reveal="nothing")
    assert f"verifier {name!r} (module {name}, " in str(raised.value)


def test_what_lies_nearby_is_named(written: Written) -> None:
    package = written("own", VERIFIER).partition(".")[0]
    assert "There is no package nowhere: install it" in message("nowhere.own")
    assert f"The package {package} is there; modules in it: own." in message(f"{package}.ovn")
    assert f"A module is named, not what lies in it: '{package}.own'" in message(
        f"{package}.own:build"
    )
    assert f"A module is named, not its file: '{package}.own'" in message(f"{package}/own.py")
    assert "Did you mean 'final_number'?" in message("final_numbr")
    assert "Did you mean 'grpo'?" in message("distil_core.objectives.grpo", OBJECTIVES)
    assert "such as my_lab.my_objective, or by an entry point" in message("my_lab", OBJECTIVES)


def test_code_in_the_workspace_is_found_whatever_the_front_door(tmp_path: Path) -> None:
    """`python -m` looks in the current folder by itself, the `distil` command does not."""
    (tmp_path / "own_lab").mkdir()
    (tmp_path / "own_lab" / "own.py").write_text(VERIFIER, encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; sys.path[:] = [p for p in sys.path if p]\n"
        "from distil_core.workspace import Workspace\n"
        "from distil_core.verifiers import VERIFIERS\n"
        f"Workspace(Path({str(tmp_path)!r})).make_code_importable()\n"
        "print(VERIFIERS.resolve('own_lab.own').source_file)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "own_lab" / "own.py")
