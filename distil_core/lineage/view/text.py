"""An artifact's lineage as text for a terminal, or as DOT for Graphviz."""

from distil_core.lineage.view.graph import Node
from distil_core.lineage.view.read import Lineage


def as_text(lineage: Lineage) -> str:
    """The graph for a terminal: one line for each artifact, followed by what it was made from."""
    asked = lineage.asked
    head = f"{asked.name}  {asked.path}  md5 {asked.md5}"
    what = "What was made from it" if lineage.forward else "What it was made from"
    lines = [head, f"{what}, by {lineage.source} and MLflow:", ""]
    if lineage.forward:
        lines += _models_line(lineage)
    for node in lineage.nodes:
        lines += _node_lines(lineage, node)
    if lineage.disagreements:
        lines += ["", "DVC and MLflow disagree:"]
        lines += [f"  - {problem}" for problem in lineage.disagreements]
    return "\n".join(lines)


def _models_line(lineage: Lineage) -> list[str]:
    direct = {made.path for made, source in lineage.edges if source == lineage.asked}
    models = [node for node in lineage.nodes if node.is_policy and node != lineage.asked]
    first = [node for node in models if node.path in direct]
    later = [node for node in models if node.path not in direct]
    return [
        f"models trained on it directly: {_names(lineage, first)}",
        f"models through these or other artifacts: {_names(lineage, later)}",
        "",
    ]


def _names(lineage: Lineage, models: list[Node]) -> str:
    return ", ".join(f"{node.name}{_version_text(lineage, node)}" for node in models) or "none"


def _version_text(lineage: Lineage, node: Node) -> str:
    run = lineage.runs.get(node.iteration)
    if run is None or not node.is_policy:
        return ""
    aliases = "".join(f" @{alias}" for alias in lineage.aliases.get(run.model_version, ()))
    return f" [{lineage.campaign}/{run.model_version}{aliases}]"


def _node_lines(lineage: Lineage, node: Node) -> list[str]:
    sources = [source.name for made, source in lineage.edges if made == node]
    came_from = f" <- {', '.join(sources)}" if sources else ""
    lines = [
        f"{node.name}{_version_text(lineage, node)}{came_from}",
        f"    {node.path}  md5 {node.md5}  by {node.stage}",
    ]
    run = lineage.runs.get(node.iteration)
    made_by = [f"MLflow run {run.run_id}"] if run else ["not recorded in MLflow"]
    if run:
        made_by.append(f"snapshot {run.snapshot or 'none'}")
        made_by.append(f"Prefect {run.tags.get('distil.prefect_run_url', 'none (dvc repro)')}")
    if node.is_policy or not any(
        n.is_policy and n.iteration == node.iteration for n in lineage.nodes
    ):
        lines.append("    " + ", ".join(made_by))
    return lines


def as_dot(lineage: Lineage) -> str:
    """The graph for Graphviz: edges lead from what was read to what was made."""
    lines = ["digraph lineage {", "  rankdir=LR;", "  node [fontname=monospace];"]
    for node in lineage.nodes:
        shape = "box" if node.is_policy else "ellipse"
        label = [f"{node.name}{_version_text(lineage, node)}", node.md5[:10], node.stage]
        run = lineage.runs.get(node.iteration)
        if run and run.snapshot:
            label.append(run.snapshot)
        text = "\\n".join(_escaped(line) for line in label)
        style = ", penwidth=2" if node == lineage.asked else ""
        lines.append(f'  "{_escaped(node.path)}" [shape={shape}, label="{text}"{style}];')
    lines += [
        f'  "{_escaped(source.path)}" -> "{_escaped(made.path)}";' for made, source in lineage.edges
    ]
    lines += [f"  // disagreement: {problem}" for problem in lineage.disagreements]
    return "\n".join([*lines, "}"])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
