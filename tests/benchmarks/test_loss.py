"""The benchmark of the loss: contenders agree, and what cannot run is said, not skipped (5 s)."""

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import loss
from benchmarks.loss import CONTENDERS, PLAIN, Sizes, Work, present
from benchmarks.measure import Run

SIZES = Sizes(tokens=24, hidden=8, vocabulary=300, top_k=5, dtype="float32")
SMALL = ["--tokens=16", "--hidden=8", "--vocabulary=200", "--top-k=4"]
FEW = ["--threads", "1", "--repeats=1", "--steps=1"]


@pytest.fixture
def without_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "PEERS_PYTHON", tmp_path / "none" / "python")


def test_the_work_is_the_same_for_all_and_a_distribution() -> None:
    work, again = Work.of(SIZES, "cpu"), Work.of(SIZES, "cpu")
    assert torch.equal(work.hidden_nd, again.hidden_nd)
    assert all(len(set(ids)) == SIZES.top_k for ids in work.ids_nk.tolist())
    mass_n = work.expert_nk.exp().sum(-1) + work.tail_n1.exp().squeeze(-1)
    torch.testing.assert_close(mass_n, torch.ones(SIZES.tokens))


def test_ours_and_the_plain_loss_have_one_value_and_gradient() -> None:
    ours, plain = Work.of(SIZES, "cpu"), Work.of(SIZES, "cpu")
    value, expected = loss.distil(ours), loss.materialised(plain)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.hidden_nd.grad, plain.hidden_nd.grad)
    torch.testing.assert_close(ours.weight_vd.grad, plain.weight_vd.grad)


@pytest.mark.usefixtures("without_peers")
def test_a_peer_that_is_not_installed_is_left_out_and_said_to_be() -> None:
    contenders, left_out = present(None, "cpu")
    assert contenders == ["distil", PLAIN]
    (line,) = left_out
    assert line.startswith("TRL, chunked top-K is left out: no ")
    assert line.endswith("`make peers` installs it.")


@pytest.mark.usefixtures("without_peers")
def test_one_that_was_asked_for_is_an_error() -> None:
    assert present(["distil"], "cpu") == (["distil"], [])
    with pytest.raises(SystemExit, match=r"--contenders asks for .*trl: no .*`make peers`"):
        present(["distil", "trl"], "cpu")


def test_with_peers_all_of_them_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python").touch()
    monkeypatch.setattr(loss, "PEERS_PYTHON", tmp_path / "python")
    assert present(None, "cpu") == (list(CONTENDERS["cpu"]), [])
    command = loss._command("trl", SIZES, "cpu", 1, 1)
    assert command[0] == str(tmp_path / "python")
    assert loss._command("distil", SIZES, "cpu", 1, 1)[0] == sys.executable


def test_on_a_gpu_peers_are_those_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss.importlib.util, "find_spec", lambda name: None)
    contenders, left_out = present(None, "cuda")
    assert contenders == ["distil", PLAIN]
    assert [line.partition(", `")[2] for line in left_out] == [
        "pip install trl` there installs it.",
        "pip install liger-kernel` there installs it.",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["loss", "--device", "cuda"])
    with pytest.raises(SystemExit, match="--device cuda needs a CUDA device"):
        loss.main()


def test_a_plain_loss_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["loss", f"--tokens={10**9}", "--contenders", PLAIN])
    with pytest.raises(SystemExit, match=r"needs about \d+ GiB and \d+ are free: take fewer"):
        loss.main()


def test_ratios_are_to_the_plain_loss() -> None:
    def run(seconds: float, extra_mb: float) -> Run:
        return Run(0.0, 0.0, {"seconds": seconds, "extra_mb": extra_mb, "loss": 1.5})

    runs = {"distil": [run(3.0, 60.0), run(2.0, 50.0)], PLAIN: [run(4.0, 1000.0)]}
    row = loss._row("distil", runs["distil"], runs, 2)
    assert row == ["DistIL", "2", "2.00", "0.50", "50", "0.05", "1.500000"]
    assert loss._row("distil", runs["distil"], {"distil": runs["distil"]}, 2)[3] == ""


@pytest.mark.usefixtures("without_peers")
def test_the_command_measures_and_names_who_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["loss", *SMALL, *FEW])
    loss.main()
    printed = capsys.readouterr().out
    table = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    assert [line[0] for line in table[2:]] == ["| DistIL", "| plain, logits whole"]
    losses = [float(line[-1].removesuffix(" |")) for line in table[2:]]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert "TRL, chunked top-K is left out" in printed
