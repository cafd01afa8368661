"""Render the viewer: what was gathered in, one self-contained HTML text out."""

import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from distil_core.html_page import inline, page_environment

_PACKAGE = "distil_core.report.samples"


def render_samples(campaign: str, samples: Mapping[str, Any]) -> str:
    """The whole file. It loads nothing; styles, script and samples are inline, and a policy in the
    page keeps it from loading anything."""
    return (
        page_environment(_PACKAGE)
        .get_template("samples.html")
        .render(
            campaign=campaign,
            iteration=samples["iteration"],
            style=inline(_PACKAGE, "samples.css"),
            script=inline(_PACKAGE, "samples.js"),
            data=Markup(_embedded(samples)),
        )
    )


def _embedded(samples: Mapping[str, Any]) -> str:
    """As JSON that no text in it can end: a script element ends at its closing tag alone, wherever
    that stands, and does not know entities."""
    text = json.dumps(samples, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
