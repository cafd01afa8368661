"""One iteration by DistIL's stages, as `make run` calls them, without the record by DVC.

`python -m benchmarks.peer_iteration.distil WORKSPACE` prints its figures as one line of JSON.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.measure import own_peak_mb
from benchmarks.peer_iteration.positions import Positions
from distil_flows.start_up import exempt_from_garbage_collection

STARTED = time.time()


def main() -> None:
    """Run the four stages of iteration 1, and count what their tables hold."""
    with exempt_from_garbage_collection():
        from distil_core.campaign.load import load_iteration_params
        from distil_core.policy.model import load_model
        from distil_core.policy.tokenizer import load_tokenizer
        from distil_core.tables.schemas import FEEDBACK
        from distil_core.tables.store import read_table
        from distil_core.workspace import Workspace
        from distil_tasks import consult, sample, tabulate, train
        from distil_tasks.stage import run_body

        imported = time.time()
        workspace = Workspace(Path(sys.argv[1]))
        params = load_iteration_params(workspace, 1)
        # What transformers imports and compiles at a process's first load; the stages load anew.
        # The peer's process loads its policy before it is ready, too.
        load_model(workspace.policy_dir(0), params.compute)
        load_tokenizer(workspace.policy_dir(0))
    positions = Positions()
    ready = time.time()
    seconds = {}
    for stage in (sample, consult, tabulate, train):
        started = time.time()
        run_body(stage.STAGE, workspace, 1)
        seconds[f"{stage.STAGE.name}_s"] = time.time() - started
    done = time.time()
    peak_mb = own_peak_mb()
    table, _ = read_table(workspace.feedback_dir(1), FEEDBACK)
    curve = workspace.train_curve_file(1).read_text(encoding="utf-8").splitlines()
    loss = curve[0].split(",").index("loss")
    response_tokens = sum(map(len, table["response_ids"].to_pylist()))
    print(
        json.dumps(
            {
                "peak_mb": peak_mb,
                "import_s": imported - STARTED,
                "set_up_s": ready - imported,
                "work_s": done - ready,
                **seconds,
                "generations": 1,
                "rollouts": table.num_rows,
                "response_tokens": response_tokens,
                # With the response's own, as the peer counts them.
                "expert_tokens": sum(map(len, table["expert_context_ids"].to_pylist()))
                + response_tokens,
                "expert_rows": sum(table["has_expert"].to_pylist()),
                "steps": len(curve) - 1,
                "positions": positions.count,
                "first_loss": float(curve[1].split(",")[loss]),
                "last_loss": float(curve[-1].split(",")[loss]),
            }
        )
    )


if __name__ == "__main__":
    main()
