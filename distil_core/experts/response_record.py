"""Answers of a paid endpoint, kept so that none is paid for twice and a rerun gets the same ones.

There is one file per answer, named by the request's digest, in `.distil/`. That is outside the
stage's outputs, which DVC deletes before each run, so an interrupted run, a raised budget or
another top_k asks only for what is missing. The answers that a table was made from are also written
beside it (`responses.jsonl`): they are versioned with it and can be restored on another machine.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distil_core.errors import DataError
from distil_core.files import private_folder, write_text

RESPONSES_FILE = "responses.jsonl"


@dataclass(frozen=True)
class Completion:
    """An endpoint's answer. text: None where it refused. finish_reason: 'stop', 'length' or
    'refused'. total_tokens: of prompt and answer, None where it does not say. Raises `TypeError`
    for values of other types, as recorded answers are read from files."""

    text: str | None
    finish_reason: str
    total_tokens: int | None

    def __post_init__(self) -> None:
        count = self.total_tokens
        if not isinstance(self.text, str | None) or not isinstance(self.finish_reason, str):
            raise TypeError("expected text and finish_reason as strings")
        if count is not None and (type(count) is not int or count < 0):
            raise TypeError(f"expected total_tokens from 0 on, found {count!r}")


@dataclass(frozen=True)
class Request:
    """What an endpoint is asked, without the key or any other header."""

    url: str
    body: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Digest of address and body: the same question has the same digest in every run."""
        text = json.dumps([self.url, self.body], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class ResponseRecord:
    """Completions by request, in a folder that only its owner can read."""

    def __init__(self, folder: Path):
        self._folder = folder

    def find(self, request: Request) -> Completion | None:
        """The recorded answer; None where there is none. Raises `DataError` where the file is
        damaged."""
        path = self._path(request.digest)
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}): delete it to ask again") from error
        return _completion(entry, str(path))

    def add(self, request: Request, completion: Completion) -> None:
        """Record one answer, atomically."""
        path = self._path(request.digest)
        private_folder(self._folder)
        write_text(path, _line(request, completion), private=True)

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / f"{digest}.json"


def save_responses(folder: Path, answered: Iterable[tuple[Request, Completion]]) -> None:
    """Write `responses.jsonl`, ordered by digest, in whatever order the answers came."""
    ordered = sorted(answered, key=lambda pair: pair[0].digest)
    lines = [_line(request, completion) for request, completion in ordered]
    write_text(folder / RESPONSES_FILE, "".join(lines))


def restore_responses(folder: Path, record_dir: Path) -> int:
    """Copy the answers saved with a table back into the record, and return their number. The table
    can then be made again without asking. Raises `DataError` for a damaged file."""
    path = folder / RESPONSES_FILE
    record, count = ResponseRecord(record_dir), 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
            request = Request(entry["request"]["url"], entry["request"]["body"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{where} is damaged ({type(error).__name__}: {error})") from error
        record.add(request, _completion(entry, where))
        count += 1
    return count


def _line(request: Request, completion: Completion) -> str:
    entry = {
        "request": {"url": request.url, "body": request.body},
        "response": asdict(completion),
    }
    return json.dumps(entry, sort_keys=True) + "\n"


def _completion(entry: Any, where: str) -> Completion:
    try:
        return Completion(**entry["response"])
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{where} is no recorded answer ({type(error).__name__}: {error})"
        ) from error
