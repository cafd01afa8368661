"""Damaged artifacts: flipped bytes, cut files, tables without rows, missing shards, truncated
weights, as inputs of the next stage. What the cache holds is healthy, so a rerun can mend it."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.faults.scene import DOORS, REPRO, TASK, NotInjectedError, NotSurvivedError, Scene

_INPUTS = {
    "sample@001": ("data/problems/train.parquet", "data/policy-000"),
    "consult@001": ("data/iterations/001/rollouts.parquet", "data/problems/train.parquet"),
    "tabulate@001": (
        "data/iterations/001/rollouts.parquet",
        "data/iterations/001/consultations.parquet",
    ),
    "train@001": ("data/iterations/001/feedback", "data/policy-000"),
    "evaluate@001": ("data/iterations/001/policy", "data/problems/eval.parquet"),
    "gate@001": ("data/iterations/001/evaluation.parquet", "data/iterations/001/policy"),
}
_READS_TABLE = ("sample@001", "consult@001", "tabulate@001", "train@001", "gate@001")
_READS_WEIGHTS = ("sample@001", "train@001", "evaluate@001")


def flipped_byte(scene: Scene) -> str:
    """One bit of a table or of weights is another."""

    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        position = scene.random.randrange(len(content))
        content[position] ^= 1 << scene.random.randrange(8)
        _replace(file, bytes(content))

    return _damage(scene, "", flip)


def cut_footer(scene: Scene) -> str:
    """A table ends too early, as after a copy that broke off."""

    def cut(file: Path) -> None:
        content = file.read_bytes()
        _replace(file, content[: -scene.random.randint(1, len(content) // 2)])

    return _damage(scene, ".parquet", cut)


def no_rows(scene: Scene) -> str:
    """A valid table of the right schema with nothing in it."""

    def empty(file: Path) -> None:
        table = pq.read_table(file).slice(0, 0)
        file.unlink()
        pq.write_table(table, file)

    return _damage(scene, ".parquet", empty)


def missing_shard(scene: Scene) -> str:
    """A file of a folder of tables is gone."""
    return _damage(scene, ".parquet", Path.unlink, in_folder=True)


def truncated_weights(scene: Scene) -> str:
    """A checkpoint whose safetensors file is cut."""

    def cut(file: Path) -> None:
        content = file.read_bytes()
        _replace(file, content[: scene.random.randrange(len(content))])

    return _damage(scene, ".safetensors", cut)


def _damage(
    scene: Scene, suffix: str, change: Callable[[Path], None], in_folder: bool = False
) -> str:
    """Change a file that the stage reads; the stage must refuse it or be given the healthy one."""
    candidates = [
        (path, file)
        for path in _INPUTS[scene.stage]
        for file in _files(scene.root / path)
        if file.name.endswith(suffix) and (not in_folder or file.parent.name == "feedback")
    ]
    if not candidates:
        raise NotInjectedError(f"{scene.stage} reads no such file")
    path, file = scene.random.choice(candidates)
    change(file)
    where = str(file.relative_to(scene.root))
    result = scene.run()
    if scene.door == REPRO and result.status == 0:
        # DVC brings the recorded content back, or makes it anew, before the stage runs.
        scene.require_finished()
        return f"{where}; DVC mended it"
    if scene.door == TASK:
        scene.require_message(result, f"{path}.*(dvc checkout|again)")
    elif result.status == 0:
        scene.require_finished()
        return f"{where}; the flow mended it"
    else:
        scene.require_message(result, path)
    scene.require_whole(damaged=[path])
    # What the message says to do.
    mended = scene.run("-m", "dvc", "checkout", "--force", path)
    if mended.status:
        raise NotSurvivedError(f"`dvc checkout --force {path}`:\n{mended.output}")
    scene.require_mended()
    return where


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _replace(file: Path, content: bytes) -> None:
    """As another file, so that what shares a hard link with it stays as it is."""
    file.unlink()
    file.write_bytes(content)


KINDS = {
    "flipped byte": (flipped_byte, DOORS, tuple(_INPUTS)),
    "cut footer": (cut_footer, DOORS, _READS_TABLE[:3]),
    "no rows": (no_rows, DOORS, _READS_TABLE[:4]),
    "missing shard": (missing_shard, DOORS, ("train@001",)),
    "truncated weights": (truncated_weights, DOORS, _READS_WEIGHTS),
}
