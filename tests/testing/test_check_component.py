"""`distil check-component`, and docs/components.md, whose modules are tried out as written (60 s).

The modules lie in a folder of the workspace. One test starts the installed command there; the
others call it in this process, which has torch already.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

Distil = Callable[..., tuple[int, str]]
PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "components.md"
MODULES = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
ARGUMENTS: dict[str, list[str]] = {
    "focal_objective": ["--options", "{gamma: 2.0}"],
    "exact_answer": ["--source", "my_lab.doubling", "--response", "24"],
    "doubling": [],
    "calculator": [],
    "first_word": ["--source", "my_lab.doubling", "--source-options", "options.yaml"],
    "patient_engine": ["--options", "{rows: 3}"],
    "trivia_rows": ["--rows", "rows.jsonl"],
    "length_hint": [],
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    for name, text in MODULES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    (root / "my_lab" / "__init__.py").touch()
    broken = MODULES["my_lab/exact_answer.py"].replace('0.0, "malformed"', '7.0, "malformed"')
    (root / "my_lab" / "generous.py").write_text(broken, encoding="utf-8")
    (root / "options.yaml").write_text("largest: 50\n", encoding="utf-8")
    (root / "rows.jsonl").write_text('{"question": "Why?", "answers": ["So."]}\n', encoding="utf-8")
    return root


@pytest.fixture
def distil(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, distil_command: Distil
) -> Iterator[Distil]:
    """`distil check-component ..` in a folder, the workspace unless another is given."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    # Other tests have a package of this name too.
    _forget_my_lab()

    def run(*arguments: str, root: Path = workspace) -> tuple[int, str]:
        monkeypatch.chdir(root)
        return distil_command("check-component", *arguments)

    yield run
    _forget_my_lab()


def _forget_my_lab() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


def test_each_module_of_the_page_is_tried() -> None:
    modules = {Path(name).stem for name in MODULES if name.startswith("my_lab/")}
    assert modules == {*ARGUMENTS}


def test_the_installed_command_finds_what_lies_in_the_workspace(workspace: Path) -> None:
    """A script does not look for modules in the current folder by itself."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "distil"), "check-component", "my_lab.doubling"],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed   the held-out problems are not those that are trained on" in done.stdout


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_module_of_the_page_passes(distil: Distil, workspace: Path, name: str) -> None:
    status, output = distil(f"my_lab.{name}", *ARGUMENTS[name])
    assert status == 0, output
    assert "\nfailed" not in output
    assert f"(module my_lab.{name}, {workspace / 'my_lab' / name}.py)" in output


def test_the_tests_of_the_page_pass(workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE), done.stdout


def test_what_fails_is_told_with_what_to_do(distil: Distil) -> None:
    status, output = distil("my_lab.generous", "--source", "my_lab.doubling")
    assert status == 1, output
    assert "failed   no response makes it raise, and each gets a verdict and a reward" in output
    assert "the reward is 7.0, expected a number in [0, 1]" in output
    assert "To do: a response that cannot be read is 'malformed' with reward 0" in output


def test_a_verifier_without_problems_says_what_is_missing(distil: Distil) -> None:
    status, output = distil("my_lab.exact_answer")
    assert status == 0, output
    assert "not run  it takes the problems" in output
    assert "name a source of them (--source)" in output


def test_options_and_problems_come_from_the_settings_that_name_it(
    distil: Distil, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_lab").symlink_to(workspace / "my_lab")
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    settings["consult"]["verifier"] = {
        "name": "my_lab.exact_answer",
        "options": {"ignore_case": True},
    }
    settings["problems"]["source"] = {"name": "my_lab.doubling", "options": {}}
    settings["problems"].pop("generalisation")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    status, output = distil("my_lab.exact_answer", root=tmp_path)
    assert status == 0, output
    assert 'with options {"ignore_case": true}' in output
    assert "passed   it takes the problems" in output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chain_arithmetic"], "problem source and verifier are what it may be: say which with"),
        (["nowhere.at_all"], "no component of any kind is named 'nowhere.at_all'"),
        (["my_lab.doubling", "--kind", "verifier"], "is no verifier: its Options is the class"),
        (["my_lab.doubling", "--options", "[1]"], "--options: expected a mapping"),
        (["my_lab.doubling", "--options", "{largest: 3}"], "largest: "),
        (["my_lab.trivia_rows", "--rows", "my_lab/doubling.py"], "expected one JSON object a line"),
    ],
)
def test_what_cannot_be_tried(distil: Distil, arguments: list[str], expected: str) -> None:
    status, output = distil(*arguments)
    assert status == 1, output
    assert expected in output
