"""A small campaign with vLLM for student and expert, on the device of benchmarks.engines."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from distil_core.campaign.load import parse_iteration_params
from distil_core.config.models import ComputeParams, IterationParams
from distil_core.progress import no_progress
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, problems, sample, tabulate, train
from distil_tasks.stage import prepare_torch

NUM_ITERATIONS = 2
# Of bfloat16, with 8 bits of mantissa; a guess until it is measured on a GPU.
LIMITS = {"float32": (1e-4, 1e-3), "bfloat16": (0.3, 0.05)}


def run_campaign(compute: ComputeParams) -> None:
    """params.yaml with heads wide enough for vLLM; prints seconds by stage, Pass@1 and drift."""
    params = _params(compute)
    prepare_torch(compute)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        for stage in (problems, base, evaluate):
            _run(workspace, params(0), stage)
        for iteration in range(1, NUM_ITERATIONS + 1):
            for stage in (sample, consult, tabulate, train, evaluate):
                _run(workspace, params(iteration), stage)


def _run(workspace: Workspace, params: IterationParams, stage: Any) -> None:
    started = time.perf_counter()
    stage.body(workspace, params, no_progress)
    name = f"{stage.STAGE.name}@{params.iteration:03d}"
    line = f"{name:14} {time.perf_counter() - started:7.1f} s"
    if stage is evaluate:
        metrics = json.loads(workspace.metrics_file(params.iteration).read_text(encoding="utf-8"))
        line += f"   pass@1 {metrics['pass_at_1']:.3f}"
        line += f", log-probability error {metrics['engine_logprob_error_mean']:.1e} on average"
        line += f", {metrics['engine_logprob_error_max']:.1e} at most"
    print(line, flush=True)


def _params(compute: ComputeParams) -> Any:
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    canary_limit, drift_limit = LIMITS[compute.dtype]
    options = {"mode": "in_process", "canary_limit": canary_limit, "drift_limit": drift_limit}
    engine = {"name": "vllm", "options": options}
    values["compute"] = compute.model_dump()
    # Attention in vLLM needs heads of 32 numbers on a CPU.
    values["base"]["architecture"]["num_heads"] = 2
    values["sample"]["engine"] = engine
    values["tabulate"]["expert"]["options"] = {"weights": "frozen", "engine": engine}

    def params(iteration: int) -> IterationParams:
        return parse_iteration_params(
            {**values, "iteration": iteration, "stage_versions": {}}, f"iteration {iteration}"
        )

    return params
