"""Packages outside the standard library that programs may import, located without importing
them."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

MOUNTED_PACKAGES = "/distil/packages"


def package_paths(packages: Sequence[str]) -> list[Path]:
    """Folders and files of the packages that this Python has, with the libraries that wheels put
    beside them. A package that is not installed is left out: the program's import then fails with a
    message."""
    found = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        path = origin.parent if spec.submodule_search_locations else origin
        libraries = path.with_name(f"{package}.libs")
        found += [path, *([libraries] if libraries.is_dir() else [])]
    return found


def package_mounts(packages: Sequence[str]) -> list[str]:
    """bubblewrap's options that make the packages readable inside."""
    mounts = []
    for path in package_paths(packages):
        mounts += ["--ro-bind", str(path), f"{MOUNTED_PACKAGES}/{path.name}"]
    return mounts
