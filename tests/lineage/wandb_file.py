"""Reads what wandb's own process wrote into an offline run's file: a log in LevelDB's layout, of
wandb's records."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _START = 32768, 7, 7
_FULL, _FIRST, _LAST = 1, 2, 4


def read_run(path: Path) -> dict[str, Any]:
    """id, name, group, config, and the points as (step, figures)."""
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Any] = {"points": [], "exit_code": None}
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found |= {"id": run.run_id, "name": run.display_name, "group": run.run_group}
            found["project"] = run.project
            found["config"] = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in run.config.update
            }
        elif kind == "history":
            figures = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            found["points"].append((record.history.step.num, figures))
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    return found


def _records(content: bytes) -> Iterator[bytes]:
    at, whole = _START, b""
    while at + _HEADER <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + _HEADER])
        part = content[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        whole = part if kind in (_FULL, _FIRST) else whole + part
        if kind in (_FULL, _LAST):
            yield whole
