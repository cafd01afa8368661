"""The journal of verdicts, and verification in this process against workers (about 10 s)."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from distil_core.config.models import Component, ConsultParams
from distil_core.errors import DataError, VerifierError
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import FeedbackItem, Verification
from distil_core.verifiers.pool import (
    Journal,
    JournalVerifier,
    VerificationJob,
    settings_digest,
    verify_all,
)

PARAMS = ConsultParams(verifier=Component(name="final_number"), reveal="nothing")
PROBLEM = Problem("1+1", "#### 2")

feedback = st.builds(
    FeedbackItem,
    kind=st.sampled_from(["tool_output", "execution_trace"]),
    text=st.text(st.characters(exclude_categories=[])),
)
verifications = st.builds(
    Verification,
    reward=st.floats(0, 1),
    verdict=st.sampled_from(["correct", "wrong", "malformed"]),
    feedback=st.lists(feedback, max_size=3).map(tuple),
    isolation=st.none() | st.text(max_size=5),
)


@given(verifications)
@settings(max_examples=50, deadline=None)
def test_a_verdict_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, verification: Verification
) -> None:
    with Journal(tmp_path_factory.mktemp("journal") / "j.sqlite", "settings") as journal:
        journal.record(b"key", verification)
        assert journal.find(b"key") == verification


def test_verdicts_are_found_again_and_failures_are_not(tmp_path: Path) -> None:
    path, right = tmp_path / "j.sqlite", Verification(1.0, "correct", ())
    with Journal(path, "one") as journal:
        journal.record(b"a", right)
        journal.record(b"b", VerifierError("broken \ud800"))
        assert str(journal.find(b"b")) == "broken \ud800"
    with Journal(path, "one") as journal:
        assert (journal.num_resumed, journal.find(b"a"), journal.find(b"b")) == (1, right, None)
        journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_verdicts_under_other_settings_are_dropped(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite", "one") as journal:
        journal.record(b"a", Verification(1.0, "correct", ()))
    with Journal(tmp_path / "j.sqlite", "other") as journal:
        assert (journal.num_resumed, journal.find(b"a")) == (0, None)


@pytest.mark.parametrize(
    "change",
    [
        {"reveal": "expected_outputs"},
        {"verify_timeout_s": 5.0},
        {"verifier": Component(name="chain_arithmetic", options={"modulus": 7})},
    ],
)
def test_what_a_verdict_depends_on_is_in_the_digest(change: dict[str, object]) -> None:
    other = PARAMS.model_copy(update=change)
    assert settings_digest(other, 1) != settings_digest(PARAMS, 1) != settings_digest(PARAMS, 2)
    assert settings_digest(PARAMS.model_copy(update={"peer_solution": True}), 1) == (
        settings_digest(PARAMS, 1)
    )


def test_a_job_is_all_that_the_verifier_is_given() -> None:
    jobs = [
        VerificationJob(Problem(prompt, reference, metadata), response)
        for prompt in "ab"
        for reference in "ab"
        for metadata in "ab"
        for response in "ab"
    ]
    assert len({job.key for job in jobs}) == 16


@pytest.mark.parametrize("size", [1, 100, 5000, 20000])
def test_a_file_cut_anywhere_loses_at_most_its_tail(tmp_path: Path, size: int) -> None:
    """As a power cut leaves it: the write-ahead file torn, the other one whole."""
    path = tmp_path / "j.sqlite"
    journal = Journal(path, "one")
    for number in range(500):
        journal.record(number.to_bytes(2, "big"), Verification(1.0, "correct", ()))
        journal.commit()
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(path.read_bytes())
    wal = Path(f"{path}-wal").read_bytes()
    Path(f"{copy}-wal").write_bytes(wal[: len(wal) - size] + b"\0" * (size // 2))
    journal.close()
    with Journal(copy, "one") as torn:
        found = [number for number in range(500) if torn.find(number.to_bytes(2, "big"))]
        assert found == list(range(len(found)))
        assert torn.num_resumed == len(found) >= 300


def test_a_damaged_or_busy_journal_is_said(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, "one"), pytest.raises(DataError, match=r"j\.sqlite cannot be used .*locked"):
        Journal(path, "one")
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match=r"cannot be used .*not a database.*delete the file"):
        Journal(path, "one")


@pytest.mark.parametrize(("num_workers", "chunk_size"), [(1, 32), (2, 1), (2, 7), (3, 100)])
def test_workers_and_chunks_change_nothing(
    tmp_path: Path, num_workers: int, chunk_size: int
) -> None:
    responses = [f"{n % 5} + 1 = {n % 7}\n#### {n % 11}" if n % 4 else "none" for n in range(150)]
    jobs = [VerificationJob(PROBLEM, response) for response in responses]
    reported: list[tuple[int, int]] = []
    with Journal(tmp_path / "j.sqlite", "one") as journal:
        verify_all(
            iter(jobs),
            len(jobs),
            PARAMS,
            num_workers,
            journal,
            lambda *step: reported.append(step),
            chunk_size,
        )
        kept, direct = JournalVerifier(journal), build_verifier(PARAMS)
        for response in responses:
            assert kept.verify(PROBLEM, response) == direct.verify(PROBLEM, response)
    assert reported == sorted(reported)
    assert reported[-1] == (150, 150)


def test_nothing_to_verify(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite", "one") as journal:
        verify_all([], 0, PARAMS, 2, journal, no_progress)
        with pytest.raises(VerifierError, match="was not verified: 'this'"):
            JournalVerifier(journal).verify(PROBLEM, "this")


def test_a_worker_imports_nothing_heavy() -> None:
    program = (
        "import sys, distil_core.verifiers.pool.worker as w;"
        "w.build_verifier(w.ConsultParams(verifier={'name': 'final_number'}, reveal='nothing'));"
        "print(*(n for n in ('torch', 'transformers', 'pyarrow', 'mlflow', 'dvc', 'sympy')"
        " if n in sys.modules))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_no_stage_is_made_anew_for_another_number_of_workers() -> None:
    project = Path(__file__).parents[3]
    stages = yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in stages.values():
        (keys,) = stage.get("do", stage)["params"][0].values()
        assert not [key for key in keys if key.split(".")[0] == "verification"]
    for name in ("consult", "evaluate"):
        (keys,) = stages[name]["do"]["params"][0].values()
        assert "consult" in keys


_FULL_DISK = """\
import sys
from pathlib import Path
from distil_core.errors import DataError
from distil_core.verifiers.base import FeedbackItem, Verification
from distil_core.verifiers.pool import Journal

verdict = Verification(1.0, "correct", (FeedbackItem("tool_output", "x" * 5000),))
try:
    with Journal(Path(sys.argv[1]) / "j.sqlite", "one") as journal:
        for number in range(1000):
            journal.record(number.to_bytes(2, "big"), verdict)
            if sys.argv[2] == "each":
                journal.commit()
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("size_kb", [4, 32, 256])
@pytest.mark.parametrize("commits", ["each", "at the end"])
def test_a_full_disk_is_said(tmp_path: Path, size_kb: int, commits: str) -> None:
    unshare = ["unshare", "--map-root-user", "--mount"]
    mount = f'mount -t tmpfs -o size={size_kb}k none "$1" && shift && exec "$@"'
    probe = [*unshare, "sh", "-c", mount, "sh", str(tmp_path), "true"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    program = [sys.executable, "-c", _FULL_DISK, str(tmp_path), commits]
    done = subprocess.run(
        [*unshare, "sh", "-c", mount, "sh", str(tmp_path), *program],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be kept in the scratch file" in done.stdout
    assert "MB free): free some space" in done.stdout


def test_verdicts_of_other_code_are_not_handed_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own package counts whole, whatever else it may hold does not."""
    package = tmp_path / "lab_v"
    package.mkdir()
    for name, text in {
        "__init__.py": "",
        "_rule.py": "EXPECTED = 1\n",
        "judge.py": (
            "from distil_core.verifiers.chain_arithmetic import Options, build\n"
            "from lab_v import _rule\n"
        ),
        "other.py": "",
    }.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    verifier = Component(name="lab_v.judge", options={"modulus": 7})
    params = PARAMS.model_copy(update={"verifier": verifier})
    before = settings_digest(params, 1)
    (package / "other.py").write_text("import lab_v.judge\n")
    (package / "_rule.py").write_text("# of the rule\nEXPECTED = 1\n")
    assert settings_digest(params, 1) == before
    (package / "_rule.py").write_text("# of the rule\nEXPECTED = 2\n")
    assert settings_digest(params, 1) != before
