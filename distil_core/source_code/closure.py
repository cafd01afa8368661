"""The source files that a module's imports lead to inside given packages; nothing is imported.

Import statements are read wherever they stand, in functions too, but not below `TYPE_CHECKING`.
What a program imports by a name it makes up (`importlib.import_module`), reads as data or changes
in `__path__` is not seen.
"""

import ast
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def import_closure(module: str, packages: Sequence[str]) -> dict[str, Path]:
    """The files of `module` and of all it imports, directly or not, by dotted name.

    packages: only what lies in these is followed. The `__init__` of every package on the way is
    included, as Python runs it; of a package inside another (`distil_core.verifiers`) only where
    something is imported from it. Empty where there is no such module.
    """
    found: dict[str, Path] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found or not _lies_in(name, packages):
            continue
        file = module_file(name)
        if file is None:
            continue
        found[name] = file
        pending += _packages_around(name, packages)
        if file.suffix == ".py":
            is_package = file.name == "__init__.py"
            pending += _imported(file.read_bytes(), name, is_package, tuple(packages))
    return dict(sorted(found.items()))


def module_file(module: str) -> Path | None:
    """The source file, or the compiled one, of a module; None where there is none."""
    top, *rest = module.split(".")
    for location in _locations(top):
        place = location.joinpath(*rest)
        candidates = [place / "__init__.py"]
        if rest:
            suffixes = (".py", *EXTENSION_SUFFIXES)
            candidates += [place.with_name(f"{place.name}{suffix}") for suffix in suffixes]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    return None if rest else _single_file(top)


def package_places(top: str) -> list[Path]:
    """The folders that a top-level package or module is imported from."""
    file = _single_file(top)
    return [location.parent for location in _locations(top)] or ([file.parent] if file else [])


def path_in_package(module: str, file: Path) -> Path:
    """Where the module's file lies below the folder that its package is imported from."""
    parts = module.split(".")
    return Path(*(parts if file.name == "__init__.py" else parts[:-1]), file.name)


def _lies_in(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _packages_around(module: str, packages: Sequence[str]) -> list[str]:
    parts = module.split(".")
    around = [".".join(parts[:length]) for length in range(1, len(parts))]
    return [name for name in around if name not in packages or "." not in name]


def _locations(top: str) -> list[Path]:
    """Where a top-level package has its modules; a namespace package has several such places."""
    spec = _spec(top)
    if spec is None or spec.submodule_search_locations is None:
        return []
    return [Path(location) for location in spec.submodule_search_locations]


def _single_file(top: str) -> Path | None:
    spec = _spec(top)
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    file = Path(spec.origin)
    return file if file.is_file() else None


def _spec(top: str) -> importlib.machinery.ModuleSpec | None:
    try:
        found = importlib.util.find_spec(top)
        if found is None:
            # A folder made a moment ago may not be known yet.
            importlib.invalidate_caches()
            found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    return found


@lru_cache(maxsize=4096)
def _imported(
    source: bytes, module: str, is_package: bool, packages: tuple[str, ...]
) -> tuple[str, ...]:
    """Names that the source may import: of a `from a import b` the module a.b where there is one,
    else a. A source that does not parse imports nothing; whoever runs it will say why."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    names: list[str] = []
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
            continue
        base = _base(node, module, is_package)
        if base is None or not any(_lies_in(p, [base]) or _lies_in(base, [p]) for p in packages):
            continue
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            names.append(inner if alias.name != "*" and module_file(inner) else base)
    return tuple(dict.fromkeys(names))


def _statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and _is_for_types_only(child.test):
            for statement in child.orelse:
                yield from _statements(ast.Module([statement], []))
        else:
            yield from _statements(child)


def _is_for_types_only(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _base(node: ast.ImportFrom, module: str, is_package: bool) -> str | None:
    """The module after `from`, absolute; None where it lies above the top."""
    if not node.level:
        return node.module
    parts = module.split(".")
    drop = node.level - 1 if is_package else node.level
    if drop >= len(parts):
        return None
    kept = parts[: len(parts) - drop]
    return ".".join([*kept, *([node.module] if node.module else [])])
