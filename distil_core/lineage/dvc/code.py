"""What DVC is to see of the code that stages are made with, brought up to date before it looks."""

import hashlib
import re

from distil_core.campaign.listing import lists_code, read_listing, refresh_links, write_listing
from distil_core.files import write_text
from distil_core.lineage.dvc.lock import lock_file, read_entries, with_entry
from distil_core.lineage.dvc.session import open_repo
from distil_core.pipeline import stages_of
from distil_core.source_code import BUILT_IN_FILE
from distil_core.workspace import Workspace
from distil_core.yaml_text import parse_yaml

_LISTS_CODE = re.compile(r"^code:", re.MULTILINE)


def prepare_code(workspace: Workspace) -> None:
    """Have `code/` be as the sources are now. Every front door does so before anything else.

    An `iterations.yaml` of before stages depended on code is brought into the present form, and
    what `dvc.lock` recorded with it: nothing becomes stale by that. Does nothing where there is no
    campaign yet. Raises `ConfigError` where `iterations.yaml` was damaged by hand.
    """
    path = workspace.iterations_file
    if not path.exists():
        return
    refresh_links(workspace)
    text = path.read_text(encoding="utf-8")
    # Looked for in the text first, since every stage asks and a long list takes a while to read.
    if _LISTS_CODE.search(text) or lists_code(parse_yaml(text)):
        return
    listing = read_listing(workspace)
    # The list comes last: as long as it is the old one, all of this is done again.
    _add_to_lock(workspace, len(listing["evaluations"]))
    write_listing(workspace, listing)


def _add_to_lock(workspace: Workspace, num_iterations: int) -> None:
    """Have what is recorded depend on the file of built-in code, which all of it used and which
    never changes."""
    if not lock_file(workspace).exists():
        return
    content = (workspace.root / BUILT_IN_FILE).read_bytes()
    dependency = {
        "path": BUILT_IN_FILE,
        "hash": "md5",
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "size": len(content),
    }
    with open_repo(workspace, "iterations.yaml"):
        entries = read_entries(workspace)
        text = lock_file(workspace).read_text(encoding="utf-8")
        for iteration in range(num_iterations):
            for stage in stages_of(iteration):
                address = stage.address(iteration)
                if not stage.uses or address not in entries:
                    continue
                entry = dict(entries[address])
                others = [item for item in entry.get("deps", []) if item["path"] != BUILT_IN_FILE]
                entry["deps"] = sorted([*others, dependency], key=lambda item: str(item["path"]))
                in_order = ("cmd", "deps", "params", "outs")
                entry = {key: entry[key] for key in in_order if key in entry} | entry
                text = with_entry(text, address, entry)
        write_text(lock_file(workspace), text)
