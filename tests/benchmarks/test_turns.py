"""The benchmark of turns measures loops that sample the same (20 s)."""

import re

import pytest

from benchmarks import turns


def test_the_loops_sample_the_same_and_a_slow_tool_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--rollouts", "10", "--alone", "4", "--workers", "2", "--models", "0.2M"]
    monkeypatch.setattr("sys.argv", ["turns", "--delays-ms", "200", *few])
    turns.main()
    printed = capsys.readouterr().out
    assert "10 rollouts of up to 4 turns after 200 tokens, 2 processes with the tool" in printed
    (row,) = re.findall(r"\| 0.2M \| (.*) \|", printed)
    delay_ms, num_turns, alone, again, kept, _ = (
        float(cell.strip("*")) for cell in row.split(" | ")
    )
    assert delay_ms == 200
    assert 1 < num_turns <= 4
    # No rollout is faster than its tool, of which there are two at a time.
    num_answers = num_turns - 1
    assert alone <= 1 / (0.2 * 1)
    for together in (again, kept):
        assert together <= 2 / (0.2 * num_answers) * 1.01
