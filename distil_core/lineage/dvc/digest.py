"""The digest that DVC gives a file or folder."""

import hashlib
import json
from pathlib import Path


def content_md5(path: Path) -> str | None:
    """DVC's digest of a file or folder; None where nothing is there."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listing = [
            {"md5": content_md5(file), "relpath": file.relative_to(path).as_posix()}
            for file in files
        ]
        listing.sort(key=lambda entry: str(entry["relpath"]))
        text = json.dumps(listing, sort_keys=True)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
