"""The learning curve's figure. Two seconds, most of it importing matplotlib."""

import io
import json
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from distil_core.campaign.iterations import restart
from distil_core.errors import DataError
from distil_core.evaluation.learning_curve import learning_curve_figure, pass_at_ks
from distil_core.report import learning_curve
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]


def metrics(first: float) -> dict[str, float]:
    values: dict[str, float] = {"num_problems": 512, "num_samples": 8}
    for k in (1, 8):
        value = 1 - (1 - first) ** k
        values |= {f"pass_at_{k}": value, f"pass_at_{k}_low": value - 0.02}
        values[f"pass_at_{k}_high"] = min(1.0, value + 0.02)
    return values


def test_lines_bands_and_labels() -> None:
    figure = learning_curve_figure({0: metrics(0.2), 2: metrics(0.9), 1: metrics(0.5)})
    (axes,) = figure.axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 1, 2]] * 2
    assert list(axes.lines[0].get_ydata()) == pytest.approx([0.2, 0.5, 0.9])
    assert len(axes.collections) == 2
    assert [text.get_text() for text in axes.texts] == ["pass@1  0.900", "pass@8  1.000"]
    heights = [text.get_position()[1] for text in axes.texts]
    assert heights[1] - heights[0] >= 0.055
    assert axes.get_title(loc="left").startswith("Held-out pass@k: 512 problems, 8 samples each")
    image = io.BytesIO()
    figure.savefig(image)
    assert image.getvalue().startswith(b"\x89PNG")


def test_one_iteration_and_labels_that_would_overlap() -> None:
    figure = learning_curve_figure({0: metrics(0.0)})
    heights = [text.get_position()[1] for text in figure.axes[0].texts]
    assert heights == pytest.approx(sorted(heights))
    assert min(heights) >= 0
    assert abs(heights[0] - heights[1]) >= 0.054


def test_other_numbers_of_samples() -> None:
    """evaluate.num_samples may change between iterations: each line has the points there are."""
    fewer = {name: value for name, value in metrics(0.5).items() if "_8" not in name}
    figure = learning_curve_figure({0: metrics(0.2), 1: metrics(0.3), 2: fewer})
    (axes,) = figure.axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 1, 2], [0, 1]]
    more = metrics(0.5) | {f"pass_at_16{end}": 1.0 for end in ("", "_low", "_high")}
    (axes,) = learning_curve_figure({0: fewer, 1: more}).axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 1], [1], [1]]


def test_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(DataError, match="at least one iteration"):
        learning_curve_figure({})
    without = {name: value for name, value in metrics(0.5).items() if name != "pass_at_8_low"}
    with pytest.raises(DataError, match="iteration 1 have a score but no pass_at_8_low"):
        learning_curve_figure({0: metrics(0.5), 1: without})
    assert pass_at_ks({"pass_at_8": 1, "pass_at_1": 1, "pass_at_1_low": 0}) == [1, 8]


def test_what_a_longer_campaign_left_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    params = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    assert "num_iterations: 6" in params
    workspace.params_file.write_text(params.replace("num_iterations: 6", "num_iterations: 1"))
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    restart(workspace, {})
    for iteration in (0, 1, 2):
        workspace.metrics_file(iteration).parent.mkdir(parents=True, exist_ok=True)
        workspace.metrics_file(iteration).write_text(json.dumps(metrics(0.2)))
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, _: drawn.append(figure))
    monkeypatch.setattr("sys.argv", ["learning_curve", "curve.png"])
    monkeypatch.chdir(tmp_path)
    learning_curve.main()
    assert list(drawn[0].axes[0].lines[0].get_xdata()) == [0, 1]
