"""Render the viewer: what was gathered in, one self-contained HTML text out."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_samples(campaign: str, samples: Mapping[str, Any]) -> str:
    """The whole file. It loads nothing; styles, script and samples are inline, and a policy in the
    page keeps it from loading anything."""
    environment = Environment(
        loader=PackageLoader("distil_core.report.samples"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("samples.html").render(
        campaign=campaign,
        iteration=samples["iteration"],
        style=Markup(_text("samples.css")),
        script=Markup(_text("samples.js")),
        data=Markup(_embedded(samples)),
    )


def _embedded(samples: Mapping[str, Any]) -> str:
    """As JSON that no text in it can end: a script element ends at its closing tag alone, wherever
    that stands, and does not know entities."""
    text = json.dumps(samples, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _text(name: str) -> str:
    return files("distil_core.report.samples").joinpath("templates", name).read_text("utf-8")
