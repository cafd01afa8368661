import pytest

from distil_core.verifiers._stored_answer import stored_answer


def test_a_short_answer_is_kept_as_it_is() -> None:
    assert stored_answer("18 €") == "18 €"
    assert stored_answer("x" * 1000) == "x" * 1000


@pytest.mark.parametrize(("one", "other"), [("x" * 1001, "x" * 1002), ("\ud800", "\ud801")])
def test_a_long_or_unstorable_one_is_kept_as_a_hash_of_its_own(one: str, other: str) -> None:
    assert stored_answer(one) == stored_answer(one) != stored_answer(other)
    assert len(stored_answer(one).encode("utf-8")) == len("sha256:") + 64
