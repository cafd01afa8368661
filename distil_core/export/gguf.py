"""GGUF, the format of llama.cpp: what can be said about it instead of a file."""

from pathlib import Path

from distil_core.errors import ExportError


def refuse_gguf(target: Path) -> None:
    """Raise `ExportError`, with the way that there is.

    The converter that is kept up with the models is a script in llama.cpp's repository; no package
    brings it. `gguf` writes the container alone, and transformers only reads it.
    """
    raise ExportError(
        "no maintained Python package converts a Hugging Face folder to GGUF; llama.cpp's own "
        "script does. Export without --gguf, and in a clone of llama.cpp run\n"
        f"  python convert_hf_to_gguf.py {target.absolute()} --outfile "
        f"{target.absolute().name}.gguf\n"
        "It knows the tokenizers of published models; one that was trained from scratch here, with "
        "a token for each character, has no counterpart in GGUF."
    )
