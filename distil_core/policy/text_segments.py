"""Text in segments: template text, in which special tokens are meant, and content, in which they
are not."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A part of a context: either the template's own text, in which special tokens are meant, or
    content, in which what looks like a special token is plain text."""

    text: str
    is_template: bool
