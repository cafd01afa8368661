"""Bars on a terminal, plain lines elsewhere. Quick."""

import io
import time

from rich.console import Console

from distil_flows.display import Display, current_display, periodic


def _shown(terminal: bool) -> str:
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=terminal, width=100))
    with display.campaign(num_stages=2):
        assert current_display() is display
        with display.stage("sample@001") as progress:
            progress(1, 4)
            progress(4, 4)
            time.sleep(0.2)  # bars are drawn ten times a second
        display.stage_done("sample@001", "ran", 1.23)
    assert current_display() is None
    return screen.getvalue()


def test_plain_lines_without_a_terminal() -> None:
    assert _shown(terminal=False) == "sample@001     ran            1.2 s\n"


def test_bars_on_a_terminal_leave_the_same_line() -> None:
    shown = _shown(terminal=True)
    assert "4/4" in shown
    assert "all stages" in shown
    assert "sample@001     ran            1.2 s" in shown


def test_long_work_says_how_far_it_is_now_and_then() -> None:
    said: list[str] = []
    progress = periodic(said.append, every_s=0)
    progress(5, 10)
    assert said[0].startswith("5 of 10 (")
    silent: list[str] = []
    progress = periodic(silent.append, every_s=60)
    progress(5, 10)
    assert silent == []
