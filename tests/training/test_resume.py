"""Training interrupted anywhere ends in the same bytes as training left alone (15 s)."""

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from training_rows import make_rows

from distil_core.config.models import FromScratchBase, TrainParams
from distil_core.objectives import OBJECTIVES
from distil_core.progress import no_progress
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.optimizer import make_optimizer
from distil_core.training.resume import ResumePoint, fingerprint
from distil_core.training.state import TrainingSetup, TrainingState
from distil_core.training.trainer import train
from distil_core.training.warm_start import WarmStartExample, warm_start
from distil_core.training.weight_average import WeightAverage

NUM_STEPS = 8
"""Of 3 batches an epoch: two boundaries between epochs, and an end inside one."""


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


@pytest.fixture(scope="module")
def rows(new_model: Any) -> FeedbackRows:
    return make_rows(new_model)


def run(
    settings: dict[str, Any],
    new_model: Any,
    rows: FeedbackRows,
    resume: ResumePoint | None,
    kill_after: int | None = None,
    **changes: Any,
) -> tuple[Any, ...]:
    """The final weights, average and curve of a run with dropout and a moving average."""

    def progress(done: int, total: int) -> None:
        if done == kill_after:
            raise Killed

    values = {"num_steps": NUM_STEPS, "batch_rollouts": 8, "learning_rate": 0.01, **changes}
    model = new_model(0)
    model.config.attention_dropout = 0.2
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.2
    average = WeightAverage(model, 0.9)
    torch.manual_seed(hash(kill_after) % 1000)
    curve = train(
        model,
        rows,
        OBJECTIVES.build("forward_cross_entropy", {}),
        TrainingSetup(TrainParams(**{**settings["train"], **values}), 7),
        progress,
        average=average,
        resume=resume,
    )
    weights = [model.state_dict(), average.model.state_dict()]
    return [{name: tensor.clone() for name, tensor in part.items()} for part in weights], curve


def assert_same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    assert found[1] == expected[1]
    for mine, theirs in zip(found[0], expected[0], strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def fresh(model: Any) -> TrainingState:
    return TrainingState(model, make_optimizer(model, 0.1, 0.01))


def point(path: Path, run_name: str = "this", every_s: float = 0.0) -> ResumePoint:
    return ResumePoint(path / "state.safetensors", fingerprint(name=run_name), every_s)


def test_what_a_kill_left_is_removed_at_the_start_and_at_success(
    tmp_path: Path, new_model: Any
) -> None:
    resume = point(tmp_path)
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    for take_care in (
        lambda: resume.load(fresh(new_model(0))),
        resume.remove,
    ):
        room = tmp_path / f".state.safetensors.{ended.pid}.partial"
        room.mkdir()
        (room / ".tmpA1b2C3").write_bytes(b"half")
        take_care()
        assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def undisturbed(new_model: Any, rows: FeedbackRows) -> tuple[Any, ...]:
    import yaml

    settings = yaml.safe_load(
        (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
    )
    return run(settings, new_model, rows, None)


@pytest.mark.parametrize("step", range(1, NUM_STEPS + 1))
def test_interrupted_after_any_step_it_ends_the_same(
    settings: dict[str, Any],
    new_model: Any,
    rows: FeedbackRows,
    undisturbed: tuple[Any, ...],
    tmp_path: Path,
    step: int,
) -> None:
    with pytest.raises(Killed):
        run(settings, new_model, rows, point(tmp_path), step)
    assert_same(run(settings, new_model, rows, point(tmp_path)), undisturbed)


def test_interrupted_twice_with_states_that_lag_behind(
    settings: dict[str, Any],
    new_model: Any,
    rows: FeedbackRows,
    undisturbed: tuple[Any, ...],
    tmp_path: Path,
) -> None:
    with pytest.raises(Killed):
        run(settings, new_model, rows, point(tmp_path), 2)
    with pytest.raises(Killed):
        run(settings, new_model, rows, point(tmp_path, every_s=1e9), 4)
    with pytest.raises(Killed):
        run(settings, new_model, rows, point(tmp_path), 5)
    assert_same(run(settings, new_model, rows, point(tmp_path)), undisturbed)


def test_the_optimizer_is_taken_up_to_the_bit(new_model: Any, tmp_path: Path) -> None:
    models = [new_model(0), new_model(1)]
    states = [fresh(model) for model in models]
    optimizers = [state.optimizer for state in states]
    for parameter in models[0].parameters():
        parameter.grad = torch.randn_like(parameter)
    states[0].finish_step({"loss": 0.1})
    point(tmp_path).save(states[0])
    point(tmp_path).load(states[1])
    assert (states[1].num_done, states[1].curve) == (1, [{"loss": 0.1}])
    mine, theirs = (optimizer.state_dict()["state"] for optimizer in optimizers)
    for index, moments in mine.items():
        assert moments.keys() == theirs[index].keys()
        assert all(torch.equal(moments[name], theirs[index][name]) for name in moments)
        assert all(moments[name].dtype == theirs[index][name].dtype for name in moments)


def test_the_state_of_another_run_is_not_taken_up(
    settings: dict[str, Any],
    new_model: Any,
    rows: FeedbackRows,
    undisturbed: tuple[Any, ...],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Killed):
        run(settings, new_model, rows, point(tmp_path, "other"), 3, learning_rate=0.5)
    with caplog.at_level(logging.WARNING):
        assert_same(run(settings, new_model, rows, point(tmp_path)), undisturbed)
    assert "of a run with other settings" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_state_is_refused(
    settings: dict[str, Any],
    new_model: Any,
    rows: FeedbackRows,
    undisturbed: tuple[Any, ...],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    with pytest.raises(Killed):
        run(settings, new_model, rows, point(tmp_path), 3)
    path = tmp_path / "state.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-100] ^= 1
    path.write_bytes(
        {"cut": content[:-7], "empty": b"", "flipped": content, "text": b"no state" * 50}[damage]
    )
    with caplog.at_level(logging.WARNING):
        assert_same(run(settings, new_model, rows, point(tmp_path)), undisturbed)
    assert "cannot be read" in caplog.text


def test_a_state_of_another_shape_is_refused(
    new_model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small, large = new_model(0, num_layers=1), new_model(0)
    state = fresh(large)
    point(tmp_path).save(TrainingState(small, make_optimizer(small, 0.1, 0.0), num_done=1))
    point(tmp_path).load(state)
    assert (state.num_done, state.curve) == (0, [])
    assert "not those of this model" in caplog.text


def test_the_state_is_kept_only_when_it_is_time(new_model: Any, tmp_path: Path) -> None:
    resume = point(tmp_path, every_s=1e9)
    resume.save(fresh(new_model(0)))
    assert not resume.path.exists()
    resume.remove()


@pytest.mark.parametrize("step", range(1, 7))
def test_an_interrupted_warm_start_ends_the_same(
    settings: dict[str, Any], new_model: Any, tmp_path: Path, step: int
) -> None:
    examples = [WarmStartExample([5, 6 + i], [7, 8 + i], [7, 9 + i]) for i in range(20)]
    params = FromScratchBase(
        **{
            **settings["base"],
            "batch_size": 4,
            "warmup_steps": 2,
            "phases": [
                {"num_steps": 3, "correction_fraction": 0.5},
                {"num_steps": 3, "correction_fraction": 0.25},
            ],
        }
    )

    def progress(done: int, total: int) -> None:
        if done == step:
            raise Killed

    whole, killed, resumed = new_model(0), new_model(0), new_model(0)
    warm_start(whole, examples, examples[::-1], params, 3, no_progress)
    with pytest.raises(Killed):
        warm_start(killed, examples, examples[::-1], params, 3, progress, point(tmp_path))
    warm_start(resumed, examples, examples[::-1], params, 3, no_progress, point(tmp_path))
    for mine, same in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, same)
