"""Report what is wrong with many rows in one message of bounded length."""

MAX_SHOWN = 20
_MAX_REASON_CHARS = 300


class Refused:
    """Rows that cannot be used, with the reason for each; the first ones are kept for the
    message."""

    def __init__(self) -> None:
        self.count = 0
        self._places: dict[tuple[str, str], list[str]] = {}

    def add(self, where: str, reason: str) -> None:
        """Count one row. where: file, comma, and line or row."""
        self.count += 1
        if self.count <= MAX_SHOWN:
            file, _, place = where.rpartition(", ")
            short = (
                reason if len(reason) <= _MAX_REASON_CHARS else reason[:_MAX_REASON_CHARS] + ".."
            )
            self._places.setdefault((file, short), []).append(place)

    def __str__(self) -> str:
        """One line for each reason, with the first rows it applies to and how many more there
        are."""
        lines = [
            ", ".join([*([file] if file else []), *places]) + f": {reason}"
            for (file, reason), places in self._places.items()
        ]
        if self.count > MAX_SHOWN:
            lines.append(f"and {self.count - MAX_SHOWN} more")
        return "\n  ".join(lines)
