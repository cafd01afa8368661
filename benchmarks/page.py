"""Writes the tables of docs/benchmarks.md from the commands that the page itself names.

`python -m benchmarks.page` runs the command of every section, or of those whose command holds one
of the given words. What stands between `<!-- python -m .. -->` and `<!-- end -->` is replaced by
what the command prints; all other text is kept. A command that fails leaves the page as it was.
"""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from distil_core.files import write_text

PAGE = Path("docs/benchmarks.md")
_SECTION = re.compile(r"<!-- (python -m [^\n]+?) -->\n(.*?)<!-- end -->", re.DOTALL)


def main() -> None:
    """Run the commands one after another, and write the page after each."""
    parser = argparse.ArgumentParser("python -m benchmarks.page", description=__doc__)
    parser.add_argument("words", nargs="*", help="only commands that hold one of them")
    words = parser.parse_args().words
    commands = commands_of(PAGE.read_text(encoding="utf-8"))
    chosen = [one for one in commands if not words or any(word in one for word in words)]
    if not chosen:
        sys.exit(f"no command of {PAGE} holds {' or '.join(words)}; it has {', '.join(commands)}")
    for command in chosen:
        print(command, flush=True)
        printed = _output(command)
        # Read only now: somebody may have written on it meanwhile.
        page = PAGE.read_text(encoding="utf-8")
        write_text(PAGE, replaced(page, {command: printed}))


def commands_of(page: str) -> list[str]:
    """The commands of a page's sections, in order."""
    return [match[1] for match in _SECTION.finditer(page)]


def replaced(page: str, printed: Mapping[str, str]) -> str:
    """The page with what these commands printed in their sections."""

    def section(match: re.Match[str]) -> str:
        if match[1] not in printed:
            return match[0]
        return f"<!-- {match[1]} -->\n{printed[match[1]].strip()}\n<!-- end -->"

    return _SECTION.sub(section, page)


def _output(command: str) -> str:
    arguments = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command} failed with exit status {done.returncode}; its section is as before")
    return done.stdout


if __name__ == "__main__":
    main()
