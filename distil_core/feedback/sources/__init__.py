"""Sources of feedback. One module each, found by name, and gathered by one function."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from distil_core.components import ComponentPlace
from distil_core.config.models import Component
from distil_core.errors import ConfigError
from distil_core.feedback.sources.base import (
    Attempt,
    FeedbackSource,
    FeedbackSourceOptions,
    SourceSetting,
)
from distil_core.registry import Registry
from distil_core.verifiers.base import FeedbackItem

SOURCES: Registry[FeedbackSourceOptions, FeedbackSource] = Registry(
    ComponentPlace("feedback source", "distil_core.feedback.sources", "distil.feedback_sources"),
    FeedbackSourceOptions,
    FeedbackSource,
    {},
)


@dataclass(frozen=True)
class Gathered:
    """items: for each attempt asked about, in order. report: for the table's metadata."""

    items: list[tuple[FeedbackItem, ...]]
    report: dict[str, Any]


def gather(
    components: Iterable[Component],
    attempts: Sequence[Attempt],
    asked: Sequence[Attempt],
    setting: SourceSetting,
) -> Gathered:
    """Gather the feedback of all sources on the attempts `asked` about, one source after another.

    components: from `consult` (`ConsultParams.sources`). attempts: see `FeedbackSource.gather`.
    """
    items: dict[str, list[FeedbackItem]] = {attempt.name: [] for attempt in asked}
    report: dict[str, Any] = {}
    for component in components:
        source = SOURCES.build(component.name, component.options)
        found = source.gather(attempts, asked, setting)
        for name, more in found.items.items():
            items[name] += more
        if repeated := sorted(report.keys() & found.report.keys()):
            raise ConfigError(
                f"feedback source {component.name!r} reports {', '.join(repeated)}, which another "
                "source in `consult` reports too: name it once, or let it report by another name"
            )
        report |= found.report
    return Gathered([tuple(items[attempt.name]) for attempt in asked], report)


def known_kinds(components: Iterable[Component] = ()) -> frozenset[str]:
    """All possible kinds of feedback: those of all sources known by name, and of `components`."""
    names = {*SOURCES.names(), *(component.name for component in components)}
    return frozenset(kind for name in names for kind in SOURCES.module(name).Options.kinds)
