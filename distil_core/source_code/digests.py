"""Digests of code by what it does: other comments, docstrings or layout are the same code."""

import ast
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

_DIGEST_BYTES = 8


def code_digest(files: Mapping[str, Path]) -> str:
    """Sixteen hex digits of the modules' names and syntax. files: by dotted name."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name, file in sorted(files.items()):
        content = file.read_bytes()
        inner = _syntax_digest(content) if file.suffix == ".py" else _plain_digest(content)
        digest.update(f"{name} {inner}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _syntax_digest(source: bytes) -> str:
    """Of the syntax tree. A source that does not parse counts by its bytes."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return _plain_digest(source)
    return _plain_digest(_written(_without_docstrings(tree)).encode())


def _plain_digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """A string that stands alone does nothing: docstrings, and notes below a name."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, [each for each in statements if not _is_text_alone(each)])
    return tree


def _is_text_alone(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _written(value: object) -> str:
    """The tree as text. Unlike `ast.dump`, whose form changes from one Python to the next, it
    leaves out what is empty, such as fields that a later Python adds."""
    if isinstance(value, ast.AST):
        fields = ",".join(
            f"{name}={_written(field)}"
            for name, field in ast.iter_fields(value)
            if field is not None and field != []
        )
        return f"{type(value).__name__}({fields})"
    if isinstance(value, list):
        return f"[{','.join(_written(item) for item in value)}]"
    return f"{type(value).__name__}:{value!r}"
