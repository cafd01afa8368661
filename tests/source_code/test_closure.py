"""Which files a module's imports lead to, found without importing any (1 s)."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distil_core.source_code import import_closure, module_file, path_in_package

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files below a folder that modules are looked for in."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def files(contents: dict[str, str]) -> Path:
        for name, text in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return files


def closure(module: str) -> set[str]:
    return set(import_closure(module, [module.partition(".")[0]]))


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import lab_a.helper", {"lab_a.helper"}),
        ("import lab_a.helper as other, json", {"lab_a.helper"}),
        ("from lab_a.helper import thing", {"lab_a.helper"}),
        ("from lab_a import helper", {"lab_a.helper"}),
        ("from lab_a import helper, VERSION", {"lab_a.helper"}),
        ("from . import helper", {"lab_a.helper"}),
        ("from .helper import thing", {"lab_a.helper"}),
        ("from .helper import *", {"lab_a.helper"}),
        ("from .deep import inner", {"lab_a.deep", "lab_a.deep.inner"}),
        ("from .deep.inner import x", {"lab_a.deep", "lab_a.deep.inner"}),
        ("def f():\n    from . import helper", {"lab_a.helper"}),
        ("try:\n    from . import helper\nexcept ImportError:\n    pass", {"lab_a.helper"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import helper", set()),
        (
            "import typing\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    from . import helper",
            {"lab_a.helper"},
        ),
        ("import importlib\nimportlib.import_module('lab_a.helper')", set()),
        ("from ... import helper", set()),
        ("import numpy, lab_b", set()),
        ("this is no Python", set()),
    ],
)
def test_import_statements(write: Write, statement: str, found: set[str]) -> None:
    write(
        {
            "lab_a/__init__.py": "VERSION = 1\n",
            "lab_a/main.py": statement + "\n",
            "lab_a/helper.py": "thing = 1\n",
            "lab_a/deep/__init__.py": "",
            "lab_a/deep/inner.py": "x = 1\n",
            "lab_b/__init__.py": "",
        }
    )
    assert closure("lab_a.main") == {"lab_a", "lab_a.main"} | found


def test_it_goes_on_from_what_is_imported_and_ends_in_a_circle(write: Write) -> None:
    write(
        {
            "lab_c/__init__.py": "from lab_c._settings import X\n",
            "lab_c/_settings.py": "X = 1\n",
            "lab_c/one.py": "from . import two\n",
            "lab_c/two.py": "from . import three\n",
            "lab_c/three.py": "from . import one\n",
            "lab_c/unrelated.py": "from . import one\n",
        }
    )
    names = {"lab_c", "lab_c._settings", "lab_c.one", "lab_c.two", "lab_c.three"}
    assert closure("lab_c.one") == names
    assert closure("lab_c.unrelated") == {*names, "lab_c.unrelated"}


def test_relative_imports_in_a_package_are_from_that_package(write: Write) -> None:
    write(
        {
            "lab_d/__init__.py": "",
            "lab_d/deep/__init__.py": "from .inner import x\nfrom .. import beside\n",
            "lab_d/deep/inner.py": "x = 1\n",
            "lab_d/beside.py": "",
        }
    )
    assert closure("lab_d.deep") == {"lab_d", "lab_d.deep", "lab_d.deep.inner", "lab_d.beside"}


def test_a_namespace_package_in_several_places(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        {
            "place_1/lab_e/one.py": "from lab_e import two\nimport lab_e.sub.three\n",
            "place_2/lab_e/two.py": "",
            "place_2/lab_e/sub/three.py": "",
        }
    )
    for place in ("place_1", "place_2"):
        monkeypatch.syspath_prepend(str(tmp_path / place))
    found = import_closure("lab_e.one", ["lab_e"])
    assert set(found) == {"lab_e.one", "lab_e.two", "lab_e.sub.three"}
    assert found["lab_e.two"] == tmp_path / "place_2/lab_e/two.py"


def test_compiled_modules_and_single_files(write: Write) -> None:
    root = write({"lab_f/__init__.py": "from . import fast\n", "lab_g.py": "import lab_f\n"})
    suffix = ".cpython-311-x86_64-linux-gnu.so" if sys.version_info[:2] == (3, 11) else ".abi3.so"
    (root / f"lab_f/fast{suffix}").write_bytes(b"\x7fELF")
    assert closure("lab_f") == {"lab_f", "lab_f.fast"}
    assert closure("lab_g") == {"lab_g"}
    assert module_file("lab_g") == root / "lab_g.py"
    assert path_in_package("lab_f", root / "lab_f/__init__.py") == Path("lab_f/__init__.py")
    assert path_in_package("lab_f.x", root / "lab_f/x.py") == Path("lab_f/x.py")


def test_what_is_not_there(write: Write) -> None:
    write({"lab_h/__init__.py": "from . import gone\n"})
    assert closure("lab_h") == {"lab_h"}
    assert closure("lab_h.gone") == set()
    assert closure("nowhere_to_be_found.x") == set()
    assert module_file("nowhere_to_be_found.x") is None


def test_of_ours_only_the_room_is_followed() -> None:
    found = import_closure("distil_core.objectives.reverse_kl", ["distil_core.objectives"])
    assert "distil_core.objectives.base" in found
    assert all(name.startswith("distil_core.objectives.") for name in found)


def test_nothing_is_imported(write: Write) -> None:
    root = write(
        {
            "lab_i/__init__.py": "raise SystemExit('imported')\n",
            "lab_i/main.py": "raise SystemExit('imported')\nfrom . import helper\n",
            "lab_i/helper.py": "",
        }
    )
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from distil_core.source_code import import_closure\n"
        "print(*import_closure('lab_i.main', ['lab_i']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["lab_i", "lab_i.helper", "lab_i.main"]
