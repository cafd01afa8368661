"""The same distributions written and read in each format."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feedback_table.distributions import RESPONSE_TOKENS, Distributions
from distil_core.tables.rounding import round_distributions
from distil_core.tables.schemas import FEEDBACK, FeedbackTableRow
from distil_core.tables.store import read_shards, write_shards

ROWS_PER_SHARD = 64
_OF_DISTRIBUTIONS = ("expert_counts", "expert_ids", "expert_logprobs", "expert_tail_logprobs")


@dataclass(frozen=True)
class Format:
    """write: all positions to a path. read: all of them back, shard by shard if there are any."""

    write: Callable[[Distributions, Path], None]
    read: Callable[[Path], None]


def feedback_rows(found: Distributions, top_p: float, compact: bool) -> list[FeedbackTableRow]:
    """Rows of a feedback table, as `tabulate` makes them."""
    probabilities_nk = np.exp(found.logprobs_nk)
    kept_nk = np.cumsum(probabilities_nk, axis=1) - probabilities_nk < top_p
    if top_p >= 1:
        kept_nk[:] = True
    counts_n = kept_nk.sum(1).astype(np.int32)
    outside_n = found.tails_n + np.where(kept_nk, 0.0, probabilities_nk).sum(1)
    with np.errstate(divide="ignore"):
        tails_n = np.log(outside_n).astype(np.float32)
    ids = found.ids_nk[kept_nk].astype(np.int32)
    logprobs = found.logprobs_nk[kept_nk].astype(np.float32)
    if compact:
        logprobs, tails_n = round_distributions(counts_n, logprobs, tails_n)
    ends = np.concatenate([[0], np.cumsum(counts_n)])
    rows = []
    for start in range(0, len(counts_n), RESPONSE_TOKENS):
        here = slice(start, min(start + RESPONSE_TOKENS, len(counts_n)))
        stored = slice(ends[here.start], ends[here.stop])
        length = here.stop - here.start
        rows.append(
            FeedbackTableRow(
                rollout_id=f"001/{start}/0",
                problem_id=f"{start // RESPONSE_TOKENS // 4:016x}",
                reward=0.0,
                context_ids=[0] * 100,
                expert_context_ids=[0] * 300,
                response_ids=found.ids_nk[here, 0].tolist(),
                behaviour_logprobs=found.logprobs_nk[here, 0].astype(np.float32),
                has_expert=True,
                expert_counts=counts_n[here],
                expert_ids=ids[stored],
                expert_logprobs=logprobs[stored],
                expert_tail_logprobs=tails_n[here],
            )
        )
        assert length == len(rows[-1].expert_counts)
    return rows


def num_bytes(path: Path) -> dict[str, int]:
    """A format's bytes, and those of its distributions alone where the file holds more."""
    if path.is_file():
        size = path.stat().st_size
        return {"bytes": size, "distribution_bytes": size}
    files = list(path.iterdir())
    of_columns = 0
    for file in files:
        metadata = pq.read_metadata(file)
        columns = (
            metadata.row_group(group).column(column)
            for group in range(metadata.num_row_groups)
            for column in range(metadata.num_columns)
        )
        of_columns += sum(
            column.total_compressed_size
            for column in columns
            if column.path_in_schema.split(".")[0] in _OF_DISTRIBUTIONS
        )
    size = sum(file.stat().st_size for file in files)
    return {"bytes": size, "distribution_bytes": of_columns}


def _feedback_table(top_p: float, compact: bool) -> Format:
    def write(found: Distributions, path: Path) -> None:
        rows = feedback_rows(found, top_p, compact)
        shards = [rows[i : i + ROWS_PER_SHARD] for i in range(0, len(rows), ROWS_PER_SHARD)]
        write_shards(path, FEEDBACK, shards, {}, compact)

    def read(path: Path) -> None:
        for _ in read_shards(path, FEEDBACK):
            pass

    return Format(write, read)


def _write_jsonl(found: Distributions, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(found.ids_nk), RESPONSE_TOKENS):
            ids = found.ids_nk[start : start + RESPONSE_TOKENS].tolist()
            logprobs = found.logprobs_nk[start : start + RESPONSE_TOKENS].tolist()
            tokens = [
                [{"id": i, "logprob": p} for i, p in zip(*token, strict=True)]
                for token in zip(ids, logprobs, strict=True)
            ]
            file.write(json.dumps({"rollout_id": f"001/{start}/0", "expert": tokens}) + "\n")


def _read_jsonl(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)


def _write_list(found: Distributions, path: Path) -> None:
    """A list column of (id, log-probability) pairs, as int64 and float64 come from Python."""
    num_positions, top_k = found.ids_nk.shape
    pairs = pa.StructArray.from_arrays(
        [pa.array(found.ids_nk.ravel()), pa.array(found.logprobs_nk.ravel())], ["id", "logprob"]
    )
    ends = np.arange(0, num_positions * top_k + 1, top_k, dtype=np.int32)
    tokens = pa.ListArray.from_arrays(pa.array(ends), pairs)
    starts = np.append(np.arange(0, num_positions, RESPONSE_TOKENS, dtype=np.int32), num_positions)
    column = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), tokens)
    names = [f"001/{start}/0" for start in starts[:-1]]
    pq.write_table(pa.table({"rollout_id": names, "expert": column}), path)


def _read_list(path: Path) -> None:
    pq.read_table(path)


NAIVE = "list column in Parquet"

FORMATS = {
    "JSONL": Format(_write_jsonl, _read_jsonl),
    NAIVE: Format(_write_list, _read_list),
    "DistIL, exact, all K": _feedback_table(1.0, compact=False),
    "DistIL, exact, top_p .9999": _feedback_table(0.9999, compact=False),
    "DistIL, compact, top_p .9999": _feedback_table(0.9999, compact=True),
    "DistIL, compact, top_p .9995": _feedback_table(0.9995, compact=True),
}
TOP_P = {
    "DistIL, exact, all K": (1.0, False),
    "DistIL, exact, top_p .9999": (0.9999, False),
    "DistIL, compact, top_p .9999": (0.9999, True),
    "DistIL, compact, top_p .9995": (0.9995, True),
}
