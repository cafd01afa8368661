"""A preview as one self-contained HTML page."""

from distil_core.html_page import inline, page_environment
from distil_core.preview.views import PreviewView, duration, memory_text


def render_page(view: PreviewView, refresh_s: int | None = None) -> str:
    """The whole file. It loads nothing and has no script. refresh_s: seconds after which a browser
    reads it again, while a preview is watched."""
    return (
        page_environment("distil_core.preview", duration=duration)
        .get_template("preview.html")
        .render(
            view=view,
            style=inline("distil_core.preview", "preview.css"),
            memory=memory_text(view.estimate),
            refresh_s=refresh_s,
        )
    )
