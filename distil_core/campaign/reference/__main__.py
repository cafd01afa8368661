"""`python -m distil_core.campaign.reference`: write docs/settings.md and docs/params.schema.json
anew. With --check, say whether they are up to date, and exit 1 where they are not."""

import argparse
import sys
from pathlib import Path

from distil_core.campaign.reference import schema_text, settings_page
from distil_core.files import write_text


def main() -> int:
    """0 where the files say, or now say, what the types do."""
    parser = argparse.ArgumentParser(prog="python -m distil_core.campaign.reference")
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = [path for path, text in written().items() if _text(path) != text]
    for path in stale:
        if check:
            print(f"{path} is not what `python -m distil_core.campaign.reference` writes")
        else:
            write_text(path, written()[path])
    return 1 if check and stale else 0


def written(docs: Path = Path("docs")) -> dict[Path, str]:
    """What each file is to hold: our own components, whatever is installed."""
    return {
        docs / "settings.md": settings_page(built_in=True),
        docs / "params.schema.json": schema_text(built_in=True),
    }


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
