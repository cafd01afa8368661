"""Write a new package with one component, from the templates of its kind."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from distil_core.component_kinds import registry_of
from distil_core.files import atomic_path
from distil_core.scaffold.names import require_new_folder, require_usable_name

_COMMON = {
    "pyproject.toml": "pyproject.toml.jinja",
    "README.md": "README.md.jinja",
    ".gitignore": "gitignore.jinja",
}

_SETTINGS = {
    "engine": "sample: {{engine: {{name: {name}, options: {{batch_size: 32}}}}}}",
    "environment": "context: {{environment: {{name: {name}, max_turns: 8, ..}}}}",
    "expert": "tabulate: {{expert: {{name: {name}}}}}",
    "feedback source": "consult: {{feedback_sources: [{{name: {name}}}]}}",
    "objective": "train: {{objective: {{name: {name}, options: {{sharpness: 2.0}}}}}}",
    "problem source": "problems: {{source: {{name: {name}, options: {{largest: 99}}}}}}",
    "program": "tabulate: {{expert: {{name: program, options: {{program: {{name: {name}}}}}}}}}",
    "row format": "problems: {{source: {{name: jsonl, options: {{row_format: {name}, ..}}}}}}",
    "tool": (
        "context: {{environment: {{name: tools, options: {{tools: [{{name: {name}}}]}}, "
        "max_turns: 4, max_observation_tokens: 200}}}}"
    ),
    "verifier": "consult: {{verifier: {{name: {name}}}}}",
}
"""How settings name it."""


@dataclass(frozen=True)
class NewPackage:
    """What was written. folder: of the package's sources. component: its module's file."""

    folder: Path
    component: Path
    name: str
    kind: str


def new_package(kind: str, name: str, folder: Path) -> NewPackage:
    """Write a package `name` with a component of one of the `component_kinds.KINDS` into `folder`,
    which is made: pyproject.toml with its entry point, the module, a test of its contract and a
    README.

    The component works as it is, so that every change to it can be tried at once. Raises
    `ConfigError`, with nothing written, for a name that cannot be used and for a folder that is
    there.
    """
    require_usable_name(kind, name)
    require_new_folder(folder)
    module = kind.replace(" ", "_")
    facts = {
        "name": name,
        "project": name.replace("_", "-"),
        "kind": kind,
        "article": "an" if kind[0] in "aeiou" else "a",
        "module": module,
        "setting": _SETTINGS[kind].format(name=name),
        "group": registry_of(kind).place.group,
    }
    files = _COMMON | {
        f"{name}/__init__.py": "init.py.jinja",
        f"{name}/py.typed": "",
        f"{name}/{module}.py": f"{module}/component.py.jinja",
        f"tests/test_{name}.py": f"{module}/test.py.jinja",
    }
    if kind == "row format":
        files["tests/rows.jsonl"] = f"{module}/rows.jsonl"
    environment = _environment()
    with atomic_path(folder) as temporary:
        for path, template in files.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            text = environment.get_template(template).render(facts) if template else ""
            (temporary / path).write_text(text, encoding="utf-8")
    return NewPackage(folder, folder / name / f"{module}.py", name, kind)


def _environment() -> Environment:
    # Python and YAML, where autoescape would turn quotation marks into entities of HTML.
    return Environment(
        loader=PackageLoader("distil_core.scaffold"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
