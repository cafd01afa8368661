"""Bars on a terminal, plain lines elsewhere. Quick."""

import io
import time

import pytest
from rich.console import Console

from distil_core.progress import no_progress, report_figures
from distil_flows.display import Display, Periodic, current_display


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


def test_an_alarm_is_red_on_a_terminal() -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=True, color_system="standard"))
    display.line("a warning")
    display.line("ALARM: [bold]nothing[/bold] was learned", style="bold red")
    plain, alarm = screen.getvalue().splitlines()
    assert plain == "a warning"
    assert alarm == "\x1b[1;31mALARM: [bold]nothing[/bold] was learned\x1b[0m"


def test_long_work_says_how_far_it_is_now_and_then() -> None:
    said: list[str] = []
    progress = Periodic(said.append, every_s=0)
    progress(5, 10)
    assert said[0].startswith("5 of 10 (")
    silent: list[str] = []
    progress = Periodic(silent.append, every_s=60)
    progress(5, 10)
    assert silent == []


def test_work_that_begins_anew_has_its_own_rate_and_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter([0.0, 10.0, 20.0, 22.0, 24.0])
    monkeypatch.setattr("distil_flows.display.time.monotonic", lambda: next(now))
    said: list[str] = []
    progress = Periodic(said.append, every_s=0)
    progress(50, 100)
    report_figures(progress, 100, {"reward": 0.25})
    progress(100, 100)
    progress(4, 8)
    progress(8, 8)
    assert said == [
        "50 of 100 (5.0/s)",
        "100 of 100 (5.0/s), reward 0.250",
        "4 of 8 (2.0/s)",
        "8 of 8 (2.0/s)",
    ]


def test_loss_and_reward_are_seen_while_a_stage_works() -> None:
    said: list[str] = []
    progress = Periodic(said.append, every_s=0)
    report_figures(progress, 5, {"loss": 0.4123, "gradient_norm": 2.0})
    progress(5, 10)
    assert said[0].endswith("/s), loss 0.412")
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=True, width=100))
    with display.campaign(num_stages=1), display.stage("consult@001") as bar:
        report_figures(bar, 5, {"reward": 0.25})
        bar(5, 10)
        time.sleep(0.2)
        assert "reward 0.250" in screen.getvalue()
        screen.truncate(0)
        bar(1, 3)
        time.sleep(0.2)
    assert "1/3" in screen.getvalue()
    assert "reward" not in screen.getvalue()
    report_figures(no_progress, 5, {"loss": 0.4})
