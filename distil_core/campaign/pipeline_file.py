"""`dvc.yaml`: the pipeline as DVC reads it, made from distil_core/pipeline.py."""

from collections.abc import Iterator
from dataclasses import asdict

from distil_core.campaign.listing import EVALUATED
from distil_core.pipeline import BASE_POLICY, PLOTS, STAGES, Artifact, Plot, Stage
from distil_core.workspace import SCORES_FOLDER

_HEADER = """\
# The pipeline of a campaign, written by `distil init` and `distil upgrade`. iterations.yaml lists
# the iterations and is written by `distil extend`; DVC has no arithmetic, so each iteration names
# the policies it starts from. A stage depends on the keys of its frozen settings that it reads, its
# entry of `stage_versions` (of its own code and that of built-in components) among them, and on the
# code of users' components. Stages of your own may stand beside these.
vars:
  - iterations.yaml

stages:
"""
_METRICS = f"""\
# A few figures of each iteration. All are in data/iterations/*/metrics.json and decision.json.
metrics:
  - {SCORES_FOLDER}
"""
_SOME_ITERATION = 1


def pipeline_text() -> str:
    """The whole file."""
    stages = "\n".join("".join(f"  {line}\n" for line in _stage(stage)) for stage in STAGES)
    plots = "".join(
        f"  - {line}\n" if first else f"      {line}\n"
        for plot in PLOTS
        for first, line in _over_all(plot)
    )
    return f"{_HEADER}{stages}\n{_METRICS}\nplots:\n{plots}"


def _stage(stage: Stage) -> Iterator[str]:
    yield f"{stage.name}:"
    indent = "  "
    if stage.per_iteration:
        section = "evaluations" if stage in EVALUATED else "iterations"
        yield f"  foreach: ${{{section}}}"
        yield "  do:"
        indent = "    "
    for line in _definition(stage):
        yield indent + line


def _definition(stage: Stage) -> Iterator[str]:
    settings = "${item.params}" if stage.per_iteration else "iterations/000.yaml"
    code = f"${{item.code.{stage.name}}}" if stage.per_iteration else f"${{code.{stage.name}}}"
    yield f"desc: {stage.description}"
    yield f"cmd: {_with_key(stage, stage.command(_SOME_ITERATION))}"
    yield "params:"
    yield f"  - {settings}:"
    yield from (f"      - {key}" for key in stage.settings_read)
    yield "deps:"
    yield from (f"  - {_path(stage, artifact)}" for artifact in stage.reads)
    if stage.reads_expert_policy:
        yield "  - ${item.expert_policy}"
    if stage.uses:
        yield f"  - {code}"
    yield "outs:"
    yield from (f"  - {_path(stage, artifact)}" for artifact in stage.writes)


def _path(stage: Stage, artifact: Artifact) -> str:
    if not stage.per_iteration or artifact is BASE_POLICY:
        return artifact.path(0)
    if artifact.listed_as is not None:
        return f"${{item.{artifact.listed_as}}}"
    return _with_key(stage, artifact.path(_SOME_ITERATION))


def _with_key(stage: Stage, text: str) -> str:
    return text.replace(f"{_SOME_ITERATION:03d}", "${key}") if stage.per_iteration else text


def _over_all(plot: Plot) -> Iterator[tuple[bool, str]]:
    yield True, f"{plot.title}:"
    for name, value in (asdict(plot) | {"y": f"${{curves.{plot.y}}}"}).items():
        yield False, f"{name}: {value}"
