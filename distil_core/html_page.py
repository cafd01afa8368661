"""Self-contained HTML pages from a package's templates, which escape every value, with figures
written alike on all of them."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

NOT_THERE = "\N{EN DASH}"
"""What stands where there is no figure."""


@cache
def page_environment(*packages: str, **filters: Callable[..., str]) -> Environment:
    """Templates in the packages' `templates` folders, those of an earlier one first.

    filters: beside `score` and `signed`, which all pages have.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": _score, "signed": _signed, **filters}
    return environment


def inline(package: str, name: str) -> Markup:
    """A style sheet or script of a package's `templates` folder, to stand in a page as it is."""
    return Markup(files(package).joinpath("templates", name).read_text("utf-8"))


def _score(value: float | None) -> str:
    return NOT_THERE if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return NOT_THERE if value is None else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
