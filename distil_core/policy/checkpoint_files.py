"""Which files of a checkpoint folder are read: those of an ordinary Hugging Face folder, as data.

Nothing in a folder is trusted: loading pickled weights runs code, an adapter's configuration beside
a model makes transformers load another model, and a link may lead anywhere.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from distil_core.errors import CheckpointError
from distil_core.policy.conventions import read_json_object

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DESCRIBING = ("*.json", "*.model", "*.txt", "*.jinja")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
WANTED = (*_DESCRIBING, "*.safetensors")
"""Patterns of what is downloaded."""


def require_model_folder(folder: Path) -> None:
    """Raise `CheckpointError` unless the folder holds one whole model, as safetensors: each file as
    long as its header says, and each tensor in the shard where the index says. No weights are read.
    """
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} holds an adapter's configuration beside a model's: transformers would load "
            "the model that adapter_config.json names instead. Keep the two in folders of their own"
        )
    named = read_json_object(folder / "config.json").get("transformers_weights")
    if named not in (None, _WEIGHTS):
        raise CheckpointError(
            f"{folder / 'config.json'} names other weights (transformers_weights {named!r}): "
            f"expected {_WEIGHTS}, or its shards with {_INDEX}"
        )
    _require_whole(folder, weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The model's safetensors: one file, or the shards that the index names.

    Raises `CheckpointError` where there are none, one is missing, or the index is invalid.
    """
    if (folder / _WEIGHTS).exists():
        return [folder / _WEIGHTS]
    index = read_json_object(folder / _INDEX)
    if not index:
        raise CheckpointError(_nothing_to_read(folder))
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{folder / _INDEX} has no weight_map: copy the checkpoint anew")
    names = sorted({str(name) for name in places.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{folder / _INDEX} names {name!r}: expected a safetensors file of this folder"
            )
    if missing := [name for name in names if not (folder / name).exists()]:
        raise CheckpointError(
            f"the checkpoint in {folder} is incomplete: {len(missing)} of {len(names)} shards are "
            f"missing, the first is {missing[0]}: copy or download it anew"
        )
    return [folder / name for name in names]


def describing_files(folder: Path) -> list[Path]:
    """Configuration and tokenizer: all files of a checkpoint except the weights."""
    return sorted(
        file
        for pattern in _DESCRIBING
        for file in folder.glob(pattern)
        if file.name not in (_INDEX, "adapter_config.json") and not file.is_dir()
    )


def index_files(folder: Path) -> list[Path]:
    """The index of the shards, where the weights are in shards."""
    whole = (folder / _WEIGHTS).exists() or not (folder / _INDEX).exists()
    return [] if whole else [folder / _INDEX]


def require_own_files(files: list[Path], folder: Path) -> None:
    """Raise `CheckpointError` for anything but an ordinary file, and for a link that leaves the
    folder, as its target would be copied into the campaign. The links of the Hugging Face hub's
    cache, whose files are in blobs/ beside snapshots/, are allowed."""
    real = folder.resolve()
    own = [real, *([real.parent.parent / "blobs"] if real.parent.name == "snapshots" else [])]
    for file in files:
        target = file.resolve()
        if file.is_symlink() and not any(map(target.is_relative_to, own)):
            raise CheckpointError(
                f"{file} is a link to a file outside of {folder}: put the file itself there, or "
                "remove the link"
            )
        if not target.is_file():
            raise CheckpointError(f"{file} is no ordinary file: remove it, or copy the folder anew")


def _require_whole(folder: Path, files: list[Path]) -> None:
    held: dict[str, set[str]] = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                held[file.name] = set(tensors.keys())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file} is damaged or not whole, it cannot be loaded ({error}): copy or download "
                "it anew"
            ) from error
    if (folder / _WEIGHTS).exists():
        return
    for name, place in sorted(read_json_object(folder / _INDEX)["weight_map"].items()):
        if name not in held[place]:
            raise CheckpointError(
                f"{folder / _INDEX} says that {name} is in {place}, which holds no such tensor: "
                "index and shards are of different checkpoints; copy or download them anew"
            )


def _nothing_to_read(folder: Path) -> str:
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        return (
            f"{folder} holds no *.safetensors weights, only {pickles[0]}: pickled weights run code "
            "when they are loaded, so they are never read; convert them with `save_pretrained`, "
            "on a machine where that may happen"
        )
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    return (
        f"{folder} holds no *.safetensors weights of a model (found "
        f"{', '.join(others) or 'none'}): expected {_WEIGHTS}, or shards with {_INDEX}, in an "
        "ordinary Hugging Face folder (config, safetensors, tokenizer); `dvc checkout --force` "
        "restores a policy of the campaign"
    )
