"""A large table read in the order of training, beside loading it whole."""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

from benchmarks.feedback_table.distributions import RESPONSE_TOKENS, make_distributions
from benchmarks.feedback_table.formats import ROWS_PER_SHARD, feedback_rows
from benchmarks.measure import machine, markdown_table, minimum_of, own_peak_mb, run_in_turn
from distil_core.tables.schemas import FEEDBACK, FeedbackTableRow
from distil_core.tables.store import read_table, write_shards

TOP_K = 20
_DIGEST = "made"
BATCH_ROWS = 128
WAYS = ("rows from a scratch file", "the table in memory")


def print_reading(num_tokens: int, repeats: int) -> str:
    """Write the table, read every row of it once in a seeded order, both ways."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "feedback"
        write_shards(table, FEEDBACK, _shards(num_tokens), {"tokenizer_digest": _DIGEST})
        size = sum(file.stat().st_size for file in table.iterdir())
        child = [sys.executable, "-m", "benchmarks.feedback_table", "--child", "read", "--at"]
        num_batches = -(-num_tokens // RESPONSE_TOKENS) // BATCH_ROWS
        commands = {way: [*child, str(table), way, str(num_batches)] for way in WAYS}
        runs = run_in_turn(commands, repeats)
    digests = {run.figures["digest"] for found in runs.values() for run in found}
    if len(digests) != 1:
        sys.exit(f"the ways gave different batches: {digests}")
    base = minimum_of(runs[WAYS[1]], lambda run: run.peak_mb)
    rows = [
        [
            way,
            f"{minimum_of(found, lambda run: run.figures['open_s']):.1f}",
            f"{minimum_of(found, lambda run: run.figures['read_s']):.1f}",
            f"{minimum_of(found, lambda run: run.figures['start_mb']):.0f}",
            f"{minimum_of(found, lambda run: run.peak_mb):.0f}",
            f"{minimum_of(found, lambda run: run.peak_mb) / base:.2f}",
        ]
        for way, found in runs.items()
    ]
    return (
        f"{machine()}; {num_tokens:,} tokens, {size / 2**20:,.0f} MB of Parquet, the same "
        f"{num_batches} batches of {BATCH_ROWS} rows both ways; least of {repeats} runs in turn."
        "\n\n"
        + markdown_table(
            ["", "open s", "all batches s", "MB before", "peak MB", "ratio"],
            rows,
        )
    )


def read_child(table: Path, way: str, num_batches: int) -> None:
    """Print seconds and a digest of the batches as JSON; the parent sees the peak memory."""
    # A training process has imported these anyway, so that the rest of its memory is the table's.
    from distil_core.training.chosen_rows import group_batches
    from distil_core.training.feedback_rows import read_feedback

    start_mb = own_peak_mb()
    started = time.perf_counter()
    rows = read_feedback(table, _DIGEST, table.parent) if way == WAYS[0] else _InMemory(table)
    opened = time.perf_counter()
    digest = hashlib.blake2b()
    for batch in group_batches(rows.groups, BATCH_ROWS, num_batches, seed=1):
        for index in chain.from_iterable(batch):
            row = rows.row(index)
            digest.update(row.rollout_id.encode())
            for values in (row.response_ids_t, row.expert_ids, row.expert_logprobs):
                digest.update(values.tobytes())
    print(
        json.dumps(
            {
                "open_s": opened - started,
                "read_s": time.perf_counter() - opened,
                "start_mb": start_mb,
                "digest": digest.hexdigest(),
                "peak_mb": own_peak_mb(),
            }
        )
    )


class _InMemory:
    """The whole table as Arrow reads it, and its rows as views."""

    def __init__(self, path: Path):
        table, _ = read_table(path, FEEDBACK)
        self._names = table["rollout_id"]
        self._columns = {
            name: table[name].combine_chunks()
            for name in ("response_ids", "expert_ids", "expert_logprobs")
        }
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(table["problem_id"].to_pylist()):
            groups.setdefault(name, []).append(index)
        self.groups = list(groups.values())

    def row(self, index: int) -> SimpleNamespace:
        values = {name: column[index].values for name, column in self._columns.items()}
        return SimpleNamespace(
            rollout_id=self._names[index].as_py(),
            response_ids_t=values["response_ids"].to_numpy(),
            expert_ids=values["expert_ids"].to_numpy(),
            expert_logprobs=values["expert_logprobs"].to_numpy(),
        )


def _shards(num_tokens: int) -> Iterator[list[FeedbackTableRow]]:
    """Shards of different rollouts; their distributions repeat from shard to shard."""
    made = make_distributions(ROWS_PER_SHARD * RESPONSE_TOKENS, TOP_K)
    rows = feedback_rows(made, 0.9999, compact=False)
    for number in range(-(-num_tokens // (ROWS_PER_SHARD * RESPONSE_TOKENS))):
        yield [
            replace(row, rollout_id=f"{number}/{i}", problem_id=f"{number}/{i // 4}")
            for i, row in enumerate(rows)
        ]
