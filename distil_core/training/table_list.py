"""The list of feedback tables that a policy was trained on, inside its folder where there are
several.

DVC's stages are written once for all iterations, so `train` cannot depend on a varying list of
tables. Instead it depends on its own table and on the parent policy, which holds this list, with a
digest of each table that it and the policies before it learned from. So a new version of any older
table means another parent policy, and DVC makes this policy again.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from distil_core.errors import DataError
from distil_core.files import write_text
from distil_core.tables.store import shard_files

TABLE_LIST_FILE = "feedback_tables.json"


def table_digest(folder: Path) -> str:
    """Digest of all files of a feedback table, including the expert's own rows."""
    shard_files(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.parquet")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_table_list(policy_dir: Path) -> dict[str, str]:
    """The digest of each table by its path; empty for a policy that learned from none, or kept no
    list."""
    path = policy_dir / TABLE_LIST_FILE
    if not path.exists():
        return {}
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in tables.items()}
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}): `dvc checkout --force` restores it"
        ) from error


def write_table_list(policy_dir: Path, tables: dict[str, str]) -> None:
    """Write the list into a policy's folder."""
    write_text(policy_dir / TABLE_LIST_FILE, json.dumps(tables, indent=1, sort_keys=True) + "\n")


def known_tables(read: Mapping[str, str], newest: str, parent_dir: Path) -> dict[str, str]:
    """Digests, by path, of all tables that a policy and those before it learned from.

    read: the policy's own tables, by path. newest: its own iteration's table, which its parent does
    not know. Raises `DataError` where an older table differs from what the parent in `parent_dir`
    lists.
    """
    listed = read_table_list(parent_dir)
    for name, digest in read.items():
        if name != newest and listed.get(name) != digest:
            raise DataError(
                f"{name} has digest {digest[:12]}, but {parent_dir / TABLE_LIST_FILE} lists "
                f"{listed[name][:12] if name in listed else 'no such table'}: bring back the table "
                f"that the parent policy was trained on with `dvc checkout {name}` (or `dvc pull "
                f"{name}`), or train the iterations since again"
            )
    return {**listed, **read}
