"""The code of one component: the files of ours that it is made of, and those of the user's."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import distil_core
from distil_core.components import ResolvedComponent
from distil_core.errors import ConfigError
from distil_core.source_code.closure import import_closure
from distil_core.source_code.digests import code_digest
from distil_core.source_code.loaded import changed_since_loaded

_OURS = Path(distil_core.__file__).parent
_WHOLE = "distil_core.sandbox"
"""Used as a whole: it starts programs of its own, which no import statement names."""


@dataclass(frozen=True)
class ComponentCode:
    """Source files by dotted module name. ours: DistIL's; own: of the component's own package, none
    where it is built in."""

    component: ResolvedComponent
    ours: Mapping[str, Path]
    own: Mapping[str, Path]

    @property
    def our_digest(self) -> str | None:
        """Digest of DistIL's part, as it was when this process first asked: it goes on with what
        it has imported, whatever the files become. None where the component uses none of it."""
        return _digest_at_first(tuple(self.ours.items())) if self.ours else None

    @property
    def digest(self) -> str:
        """Of all of it."""
        return f"{self.our_digest or ''}{code_digest(self.own) if self.own else ''}"


def code_of(component: ResolvedComponent, room: str) -> ComponentCode:
    """The component's module and what it imports: of its own top-level package all, of ours what
    lies in `room`, the package of components of this kind, and in the sandbox."""
    packages = [room, _WHOLE]
    if not component.is_built_in:
        packages.append(component.module_name.partition(".")[0])
    files = import_closure(component.module_name, packages)
    ours = {name: file for name, file in files.items() if file.is_relative_to(_OURS)}
    own = {name: file for name, file in files.items() if name not in ours}
    if _WHOLE in ours:
        for file in (_OURS / "sandbox").rglob("*.py"):
            name = ".".join(file.relative_to(_OURS.parent).with_suffix("").parts)
            ours[name.removesuffix(".__init__")] = file
    return ComponentCode(component, MappingProxyType(ours), MappingProxyType(own))


@cache
def _digest_at_first(files: tuple[tuple[str, Path], ...]) -> str:
    return code_digest(dict(files))


def require_as_loaded(code: ComponentCode) -> None:
    """Raise `ConfigError` where this process has imported the user's code as it was before."""
    changed = changed_since_loaded(code.own)
    if changed:
        raise ConfigError(
            f"{code.component.described()}: {', '.join(map(str, changed))} changed since this "
            "process loaded it, which would go on with the old code. What is finished is kept: "
            "run again"
        )
