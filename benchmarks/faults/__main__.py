"""`python -m benchmarks.faults [--seed 1] [--faults 60] [--kind NAME ..] [--only INDEX] [--told]`.

Makes a small campaign from scratch without disturbance, then breaks copies of it, one fault each,
drawn with the seed: every kind in turn, at a random front door, stage and moment. After each, the
command must have said what is wrong; nothing half-written may be visible; and a rerun must end with
the digests of the undisturbed campaign, no run alive in Prefect or MLflow, and a clean `dvc
status`. Prints a table by kind, with the seconds that a fault and the reruns took; exits 1 if a
fault was not survived, after saying how to replay it.
"""

import argparse
import signal
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.faults.kinds import KINDS
from benchmarks.faults.scene import NotInjectedError, NotSurvivedError, Reference, Scene
from benchmarks.measure import machine, markdown_table

SURVIVED, NOT_SURVIVED, SKIPPED = "survived", "NOT SURVIVED", "skipped"


def main() -> None:
    """Inject, print, judge."""
    arguments = _parse()
    # Ignored in a shell's background jobs, it would be ignored by their children, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kinds = arguments.kind or list(KINDS)
    found = []
    failures = []
    with tempfile.TemporaryDirectory(prefix="distil-faults-") as folder:
        started = time.monotonic()
        reference = Reference(Path(folder) / "undisturbed")
        print(f"undisturbed campaign: {time.monotonic() - started:.0f} s", flush=True)
        indices = [arguments.only] if arguments.only is not None else range(arguments.faults)
        for index in indices:
            random = Random(f"{arguments.seed}/{index}")
            kind = kinds[index % len(kinds)]
            inject, doors, stages = KINDS[kind]
            door, stage = random.choice(doors), random.choice(stages)
            scene = Scene(reference, Path(folder) / f"fault-{index}", stage, door, random)
            started = time.monotonic()
            try:
                verdict, detail = SURVIVED, inject(scene)
            except NotInjectedError as error:
                verdict, detail = SKIPPED, str(error)
            except NotSurvivedError as error:
                verdict, detail = NOT_SURVIVED, str(error)
                failures.append((index, kind, door, stage))
            seconds = time.monotonic() - started
            found.append((kind, verdict, seconds))
            what = f"{index:3d} {kind} at {stage} through {door}"
            print(f"{what}: {verdict} ({seconds:.0f} s): {detail}", flush=True)
            for output in scene.outputs if arguments.told else ():
                print(textwrap.indent(output.strip(), "    | "), flush=True)
            if verdict != NOT_SURVIVED or not arguments.keep:
                scene.remove()
            else:
                kept = Path(tempfile.mkdtemp(prefix=f"distil-fault-{index}-")) / "workspace"
                scene.root.rename(kept)
                print(f"    kept as {kept}")
    print(f"\n{machine()}; a small campaign of one iteration; seed {arguments.seed}\n")
    print(table(found))
    for index, kind, door, stage in failures:
        print(f"NOT SURVIVED: {kind} at {stage} through {door}. Replay it:")
        chosen = "".join(f" --kind '{name}'" for name in arguments.kind or ())
        print(
            f"  python -m benchmarks.faults --seed {arguments.seed} --only {index}{chosen} --keep"
        )
    sys.exit(1 if failures else 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=60, help="how many (default 60)")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only these kinds")
    parser.add_argument("--only", type=int, metavar="INDEX", help="only the fault of this index")
    parser.add_argument("--told", action="store_true", help="print what the commands said")
    parser.add_argument("--keep", action="store_true", help="keep workspaces that did not survive")
    return parser.parse_args()


def table(found: Sequence[tuple[str, str, float]]) -> str:
    """One row for each kind, and one of all. found: kind, verdict and seconds of each fault."""
    kinds = [*dict.fromkeys(kind for kind, _, _ in found)]
    rows = [_row(kind, [one for one in found if one[0] == kind]) for kind in kinds]
    header = ["fault", "injected", "survived", "skipped", "s, median"]
    return markdown_table(header, [*rows, _row("**all**", found)])


def _row(name: str, found: Sequence[tuple[str, str, float]]) -> list[str]:
    counts = Counter(verdict for _, verdict, _ in found)
    injected = len(found) - counts[SKIPPED]
    seconds = median(seconds for _, _, seconds in found)
    return [name, str(injected), str(counts[SURVIVED]), str(counts[SKIPPED]), f"{seconds:.0f}"]


if __name__ == "__main__":
    main()
