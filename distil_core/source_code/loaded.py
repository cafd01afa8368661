"""Whether this process still runs what lies on the disk: Python reads a module once.

A campaign may run for hours in one process, and its owner edit a component meanwhile. DVC would
record the new file, and the old one would have run.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

_loaded: dict[Path, bytes] = {}


def note_sources(files: Mapping[str, Path]) -> None:
    """Keep what these modules (files by dotted name) are imported from, until they are."""
    for name, file in files.items():
        if name not in sys.modules or file not in _loaded:
            _loaded[file] = file.read_bytes()


def changed_since_loaded(files: Mapping[str, Path]) -> list[Path]:
    """Those that are other files by now than were imported."""
    note_sources(files)
    return [file for file in files.values() if _loaded[file] != file.read_bytes()]
