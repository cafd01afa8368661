"""What a campaign could not work with is refused before it begins, as a checkpoint or as files."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import MARKERS, chat_tokenizer, edit_json, make_checkpoint
from transformers import AutoModelForCausalLM

from distil_core.config.models import ComputeParams, PretrainedBase
from distil_core.errors import CheckpointError
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.pretrained import link_pretrained
from distil_core.policy.tokenizer import load_tokenizer

COMPUTE = ComputeParams(device="cpu", dtype="float32", num_threads=1)
WEIGHTS = "model.safetensors"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "hf", chat_tokenizer())


def link(folder: Path) -> list[str]:
    base = PretrainedBase(kind="pretrained", path_or_id=str(folder))
    return link_pretrained(base, folder.parent / "policy-000")


@pytest.mark.parametrize(
    "generation",
    [
        {"do_sample": False, "temperature": 0.6, "top_p": 0.9},
        {"temperature": 0.6},
        {"num_beams": 1, "early_stopping": True},
        {"length_penalty": 0.5},
        {"num_return_sequences": 4},
        {"cache_implementation": "weird"},
        {"watermarking_config": {"x": 1}},
        {"return_dict_in_generate": False, "output_scores": True, "pad_token_id": -1},
    ],
)
def test_sampling_defaults_that_cannot_be_saved_are_left_out(
    checkpoint: Path, tmp_path: Path, generation: dict[str, Any]
) -> None:
    edit_json(
        checkpoint / "generation_config.json", generation | {"eos_token_id": [256, 257]}, True
    )
    (told,) = link(checkpoint)
    assert "only its tokens are kept" in told
    policy = tmp_path / "policy-000"
    save_policy(load_model(policy, COMPUTE), load_tokenizer(policy), tmp_path / "trained")
    ends = {*end_token_ids(load_tokenizer(tmp_path / "trained"))}
    assert {256, 257} <= ends


def test_sampling_defaults_that_can_be_saved_stay(checkpoint: Path, tmp_path: Path) -> None:
    wanted = {"do_sample": True, "temperature": 0.6, "eos_token_id": [256, 257]}
    edit_json(checkpoint / "generation_config.json", wanted, True)
    assert link(checkpoint) == []
    assert json.loads((tmp_path / "policy-000/generation_config.json").read_text()) == wanted


def _with_nan(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _in_shards(folder: Path) -> list[Path]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    return sorted(folder.glob("model-*.safetensors"))


def _without_a_shard(folder: Path) -> None:
    _in_shards(folder)[0].unlink()


def _with_a_shard_elsewhere(folder: Path) -> None:
    shards = _in_shards(folder)
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    shutil.move(shards[0], folder.parent / "elsewhere.safetensors")
    moved = {
        name: "../elsewhere.safetensors" if place == shards[0].name else place
        for name, place in places.items()
    }
    edit_json(index, {"weight_map": moved})


def _truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def _with_another_models_index(folder: Path) -> None:
    _in_shards(folder)
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    first = places["model.embed_tokens.weight"]
    edit_json(index, {"weight_map": places | {"model.layers.7.mlp.up_proj.weight": first}})


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _pickled_in_shards(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": {"lm_head.weight": "pytorch_model-00001-of-00001.bin"}}
    edit_json(folder / "pytorch_model.bin.index.json", index, True)
    edit_json(folder / "model.safetensors.index.json", index, True)
    (folder / WEIGHTS).unlink()


def _more_tokens(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.save_pretrained(folder)


def _unknown_code(folder: Path) -> None:
    edit_json(
        folder / "config.json", {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    )


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_with_nan, r"model\.norm\.weight holds NaN or infinity"),
        (_without_a_shard, r"incomplete: 1 of \d+ shards are missing, the first is model-00001"),
        (_with_a_shard_elsewhere, "expected a safetensors file of this folder"),
        (_truncated, "is damaged or not whole, it cannot be loaded"),
        (_with_another_models_index, r"says that model\.layers\.7\.mlp.* is in model-00"),
        (_pickled, r"only pytorch_model\.bin: pickled weights run code"),
        (_pickled_in_shards, "expected a safetensors file of this folder"),
        (_more_tokens, "larger than the model's embedding: '<|turn|>' is token 260"),
        (_unknown_code, "cannot be loaded"),
        (lambda folder: (folder / "config.json").unlink(), r"hf has no config\.json: expected"),
        (
            lambda folder: (folder / "tokenizer_config.json").unlink(),
            r"hf has no tokenizer_config\.json: expected",
        ),
        (
            lambda folder: edit_json(folder / "generation_config.json", {"eos_token_id": 999}),
            r"token 999 as an end .*knows 0 to 259",
        ),
        (
            lambda folder: (folder / "adapter_config.json").write_text("{}"),
            "an adapter's configuration beside a model's",
        ),
        (
            lambda folder: edit_json(folder / "config.json", {"transformers_weights": "a.bin"}),
            "names other weights",
        ),
        (
            lambda folder: (folder / "chat_template.jinja").unlink() or os.mkfifo(folder / "a.txt"),
            "no ordinary file",
        ),
    ],
)
def test_a_base_that_no_campaign_could_use(
    checkpoint: Path, tmp_path: Path, damage: Callable[[Path], None], expected: str
) -> None:
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=expected.replace("<|turn|>", r"<\|turn\|>")) as error:
        link(checkpoint)
    assert "partial" not in str(error.value)
    assert not (tmp_path / "policy-000").exists()


def test_shards_are_taken_and_other_weights_are_not(checkpoint: Path, tmp_path: Path) -> None:
    expected = load_model(checkpoint, COMPUTE).state_dict()
    names = [path.name for path in _in_shards(checkpoint)]
    save_file({"w": torch.zeros(1)}, checkpoint / "consolidated.safetensors")
    assert link(checkpoint) == []
    policy = tmp_path / "policy-000"
    assert sorted(path.name for path in policy.glob("*.safetensors")) == names
    found = load_model(policy, COMPUTE).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_tied_weights_may_be_stored_twice(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "hf", chat_tokenizer(), tie_word_embeddings=True)
    tensors = load_file(folder / WEIGHTS)
    assert "lm_head.weight" not in tensors
    expected = load_model(folder, COMPUTE).state_dict()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    assert link(folder) == []
    found = load_model(tmp_path / "policy-000", COMPUTE)
    assert all(torch.equal(found.state_dict()[name], one) for name, one in expected.items())
    head = found.get_output_embeddings()
    assert head is not None
    assert head.weight is found.get_input_embeddings().weight


def test_a_placeholder_of_images_needs_no_embedding(tmp_path: Path) -> None:
    """Gemma 3 with 1 billion parameters and less has one in its tokenizer only."""
    tokenizer = chat_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*MARKERS, "<image_soft_token>"]})
    folder = make_checkpoint(tmp_path / "hf", tokenizer, vocabulary_size=len(tokenizer) - 1)
    with pytest.raises(CheckpointError, match="'<image_soft_token>' is token 260"):
        link(folder)
    edit_json(folder / "tokenizer_config.json", {"image_token": "<image_soft_token>"})
    link(folder)


def test_files_of_the_tokenizer_that_transformers_does_not_write_are_kept(
    checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / "tokenizer.model").write_bytes(b"as other programs read it")
    link(checkpoint)
    policy = tmp_path / "policy-000"
    save_policy(load_model(policy, COMPUTE), load_tokenizer(policy), tmp_path / "policy-001")
    save_policy(
        load_model(policy, COMPUTE),
        load_tokenizer(tmp_path / "policy-001"),
        tmp_path / "policy-002",
    )
    kept = tmp_path / "policy-002" / "tokenizer.model"
    assert kept.read_bytes() == b"as other programs read it"


def test_a_link_out_of_the_folder_is_not_followed(checkpoint: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    for name in ("notes.txt", "special_tokens_map.json"):
        (checkpoint / name).symlink_to(secret)
        with pytest.raises(CheckpointError, match=f"{name} is a link to a file outside"):
            link(checkpoint)
        (checkpoint / name).unlink()
    (checkpoint / "copy.txt").symlink_to("config.json")
    link(checkpoint)
    assert not (tmp_path / "policy-000" / "copy.txt").is_symlink()


def _as_in_the_hubs_cache(checkpoint: Path, cache: Path, blobs: Path) -> Path:
    snapshot = cache / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    if blobs.parent != cache:
        (cache / "blobs").symlink_to(blobs)
    for number, file in enumerate(sorted(checkpoint.iterdir())):
        shutil.move(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_the_hubs_cache_is_made_of_links(checkpoint: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--a--b"
    snapshot = _as_in_the_hubs_cache(checkpoint, cache, cache / "blobs")
    base = PretrainedBase(kind="pretrained", path_or_id=str(snapshot))
    link_pretrained(base, tmp_path / "policy-000")
    assert not any(path.is_symlink() for path in (tmp_path / "policy-000").iterdir())


def test_a_cache_whose_blobs_are_elsewhere(checkpoint: Path, tmp_path: Path) -> None:
    snapshot = _as_in_the_hubs_cache(checkpoint, tmp_path / "models--a--b", tmp_path / "private")
    base = PretrainedBase(kind="pretrained", path_or_id=str(snapshot))
    with pytest.raises(CheckpointError, match="is a link to a file outside"):
        link_pretrained(base, tmp_path / "policy-000")


def test_code_that_a_known_model_names_is_left_out(checkpoint: Path, tmp_path: Path) -> None:
    edit_json(checkpoint / "config.json", {"auto_map": {"AutoModelForCausalLM": "evil.Model"}})
    edit_json(
        checkpoint / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}
    )
    (checkpoint / "evil.py").write_text("raise SystemExit('ran')")
    told = link(checkpoint)
    assert len(told) == 2
    assert all("never run" in line for line in told)
    policy = tmp_path / "policy-000"
    assert not any("auto_map" in path.read_text() for path in policy.glob("*config.json"))
    assert not (policy / "evil.py").exists()


def test_an_answer_waiting_on_standard_input_runs_no_code(checkpoint: Path, tmp_path: Path) -> None:
    _unknown_code(checkpoint)
    edit_json(
        checkpoint / "tokenizer_config.json",
        {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}},
    )
    (checkpoint / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    script = (
        "import sys; from pathlib import Path\n"
        "from distil_core.config.models import ComputeParams\n"
        "from distil_core.policy.model import load_model\n"
        "from distil_core.policy.tokenizer import load_tokenizer\n"
        "compute = ComputeParams(device='cpu', dtype='float32', num_threads=1)\n"
        "for load in (load_tokenizer, lambda folder: load_model(folder, compute)):\n"
        "    try: load(Path(sys.argv[1]))\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint)],
        input="y\n" * 9,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "CheckpointError" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_every_loading_says_that_no_code_is_run() -> None:
    loading = 0
    for path in (Path(__file__).parents[2] / "distil_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).startswith("Auto")
                and ast.unparse(node.func).endswith(".from_pretrained")
            ):
                loading += 1
                asked = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert asked["trust_remote_code"] == "False", path
    assert loading == 5
