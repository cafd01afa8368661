"""A preview as one self-contained HTML page."""

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from distil_core.preview.views import PreviewView, duration, memory_text


def render_page(view: PreviewView, refresh_s: int | None = None) -> str:
    """The whole file. It loads nothing and has no script. refresh_s: seconds after which a browser
    reads it again, while a preview is watched."""
    return (
        _environment()
        .get_template("preview.html")
        .render(
            view=view,
            style=Markup(_style()),
            memory=memory_text(view.estimate),
            refresh_s=refresh_s,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("distil_core.preview"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    return environment


@cache
def _style() -> str:
    return files("distil_core.preview").joinpath("templates/preview.css").read_text("utf-8")
