"""Where a component's name leads: to a module of ours, of an installed package, or of the user's
own.

Resolving a name imports nothing except the packages that a dotted path is in, so that listing a
component's files (staleness, snapshots) does not import torch.
"""

import difflib
import importlib
import importlib.util
import pkgutil
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Literal

from distil_core.errors import ConfigError

Origin = Literal["built_in", "entry_point", "dotted_path"]

_DOTTED_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True)
class ResolvedComponent:
    """What a name in the settings stands for.

    kind: such as 'objective'. source_file: the module's file, `__init__.py` where it is a package.
    distribution, version: of the installed package whose entry point has the name, else None.
    """

    kind: str
    name: str
    module_name: str
    source_file: Path
    origin: Origin
    distribution: str | None = None
    version: str | None = None

    @property
    def is_built_in(self) -> bool:
        """Whether it is part of DistIL itself."""
        return self.origin == "built_in"

    def described(self) -> str:
        """Kind, name, module and file, for messages."""
        return f"{self.kind} {self.name!r} (module {self.module_name}, {self.source_file})"

    def module(self) -> ModuleType:
        """The module, imported. `ConfigError` shows the line of its own where that fails."""
        try:
            return importlib.import_module(self.module_name)
        except Exception as error:
            raise ConfigError(
                f"{self.described()} cannot be imported: {_where_it_failed(error)}"
            ) from error


@dataclass(frozen=True)
class ComponentPlace:
    """Where components of one kind are searched.

    package: ours; its modules are the built-in components, except those that begin with an
    underscore and the `contract_modules`. group: the entry points of other packages.
    """

    kind: str
    package: str
    group: str
    contract_modules: tuple[str, ...] = ("base",)

    def built_in_names(self) -> list[str]:
        """Names of the modules of our package that are components, sorted."""
        package = importlib.import_module(self.package)
        return sorted(
            module.name
            for module in pkgutil.iter_modules(package.__path__)
            if not module.name.startswith("_") and module.name not in self.contract_modules
        )

    def names(self) -> list[str]:
        """All short names, the built-in ones and those of installed packages, sorted."""
        return sorted({*self.built_in_names(), *_points(self.group)})

    def resolve(self, name: str) -> ResolvedComponent:
        """What `name` stands for: a built-in one, an entry point, or the dotted path of a module.

        Raises `ConfigError` where it is nothing of these, or two of them.
        """
        points = _points(self.group).get(name, ())
        is_built_in = name in self.built_in_names()
        if points:
            self._require_one(name, points, is_built_in)
            return self._of_entry_point(name, points[0])
        if is_built_in:
            module_name = f"{self.package}.{name}"
            return self._found(name, module_name, "built_in", _source_file(module_name))
        if not _DOTTED_PATH.fullmatch(name) or name.startswith(f"{self.package}."):
            raise ConfigError(self._unknown(name))
        return self._found(name, name, "dotted_path", self._source_of_dotted_path(name))

    def _require_one(self, name: str, points: tuple[EntryPoint, ...], is_built_in: bool) -> None:
        claims = [f"{_distribution(point)} ({point.value})" for point in points]
        if is_built_in:
            claims.insert(0, f"DistIL itself ({self.package}.{name})")
        if len(claims) > 1:
            raise ConfigError(
                f"{self.kind} {name!r} is ambiguous: {' and '.join(claims)} have that name "
                f"(entry points of group {self.group}). Name the one that is meant by its dotted "
                "path, rename one of them in its package, or uninstall it"
            )

    def _of_entry_point(self, name: str, point: EntryPoint) -> ResolvedComponent:
        of_it = f"{self.kind} {name!r}, an entry point of {_distribution(point)}"
        if point.attr:
            raise ConfigError(
                f"{of_it}, is {point.value!r}: expected a module, such as {point.module!r}, that "
                "defines Options and build"
            )
        file = _source_file(point.module)
        if file is None:
            raise ConfigError(
                f"{of_it}, names the module {point.module!r}, which is not there: install that "
                "package again, or correct its entry point"
            )
        version = point.dist.version if point.dist else None
        distribution = point.dist.name if point.dist else None
        return self._found(name, point.module, "entry_point", file, distribution, version)

    def _source_of_dotted_path(self, name: str) -> Path:
        try:
            file = _source_file(name)
        except Exception as error:
            raise ConfigError(
                f"{self.kind} {name!r}: the package {name.rpartition('.')[0]} cannot be imported: "
                f"{_where_it_failed(error)}"
            ) from error
        if file is None:
            raise ConfigError(
                f"{self.kind} {name!r}: no such module. {_how_far(name)} Modules are looked for in "
                "the workspace's folder and in what is installed for "
                f"{sys.executable}"
            )
        return file

    def _found(
        self,
        name: str,
        module_name: str,
        origin: Origin,
        file: Path | None,
        distribution: str | None = None,
        version: str | None = None,
    ) -> ResolvedComponent:
        if file is None or file.suffix != ".py":
            raise ConfigError(
                f"{self.kind} {name!r}: the module {module_name} has no Python source file "
                f"({file}): expected one, since it is recorded with the campaign"
            )
        return ResolvedComponent(self.kind, name, module_name, file, origin, distribution, version)

    def _unknown(self, name: str) -> str:
        known = self.names()
        hint = _hint(name, known)
        return (
            f"unknown {self.kind} {name!r}; known: {', '.join(known)}."
            f"{f' {hint}' if hint else ''} One of your own is named by the dotted path of its "
            f"module, such as my_lab.my_{self.kind.replace(' ', '_')}, or by an entry point of its "
            f"package, which must be installed here (docs/components.md); a built-in one is a "
            f"module of {self.package}."
        )


@lru_cache(maxsize=64)
def _points_on(group: str, _: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _points(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Entry points by name: read once for each search path, since every package's are read."""
    return _points_on(group, tuple(sys.path))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def _source_file(module_name: str) -> Path | None:
    """The module's file; None where there is no such module. Imports the packages around it, and
    raises what they raise."""
    try:
        spec = importlib.util.find_spec(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            return None
        raise
    return Path(spec.origin).absolute() if spec and spec.has_location and spec.origin else None


def _how_far(name: str) -> str:
    """Which part of a dotted path is there, and what lies in it."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        package = ".".join(parts[:length])
        try:
            spec = importlib.util.find_spec(package)
        except ImportError:
            continue
        if spec is None:
            continue
        if spec.submodule_search_locations is None:
            return f"{package} ({spec.origin}) is a module, not a package that has modules in it."
        modules = pkgutil.iter_modules(spec.submodule_search_locations)
        there = ", ".join(sorted(module.name for module in modules)) or "none"
        return f"The package {package} is there; modules in it: {there}."
    return f"There is no package {parts[0]}: install it, or put it into the workspace's folder."


def _hint(name: str, known: list[str]) -> str:
    """What a name that leads nowhere may have meant; '' where it is unclear."""
    plain = name.partition(":")[0].removesuffix(".py").replace("/", ".").strip(".")
    if (last := plain.rpartition(".")[2]) in known:
        return f"Did you mean {last!r}?"
    if ":" in name:
        return f"A module is named, not what lies in it: {plain!r}, whose build is called."
    if "/" in name or name.endswith(".py"):
        return f"A module is named, not its file: {plain!r}."
    if close := difflib.get_close_matches(name, known, 1, 0.75):
        return f"Did you mean {close[0]!r}?"
    if name.isidentifier() and name not in sys.stdlib_module_names and _source_file(name):
        return (
            f"There is a module {name} outside of any package: put it into one (a folder with an "
            f"__init__.py) and name it my_lab.{name}, or give it an entry point."
        )
    return ""


def _where_it_failed(error: BaseException) -> str:
    """The exception with the line it comes from, leaving out the import machinery."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        line = (error.text or "").strip()
        return f"{text}{f', in `{line}`' if line else ''}"
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and file not in (__file__, importlib.__file__):
            place = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return f"{text} ({place})" if place else text
