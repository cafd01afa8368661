"""Text of which some is meant as it stands, special tokens included, and some is only content."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A stretch of a context: the template's own text (special tokens in it are meant), or
    content (what looks like a special token in it is plain text)."""

    text: str
    is_template: bool
