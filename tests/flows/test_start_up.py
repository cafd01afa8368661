"""What a long process imports is kept from the garbage collector; all else is still collected."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from distil_flows.start_up import exempt_from_garbage_collection


@pytest.fixture(autouse=True)
def _unfrozen() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


class Node:
    """Refers to itself: only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


def test_objects_of_the_block_are_not_looked_at_again() -> None:
    with exempt_from_garbage_collection():
        assert not gc.isenabled()
        inside = weakref.ref(Node())
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000, "with all that was there before"
    after = weakref.ref(Node())
    gc.collect()
    assert inside() is not None
    assert after() is None


def test_a_block_that_fails_leaves_all_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError), exempt_from_garbage_collection():
        _ = 1 / 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
