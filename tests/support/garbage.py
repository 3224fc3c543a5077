"""Collect garbage at a chosen place inside of the code under test."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

#: How many allocations the tests try: the functions that they test make fewer.
ALLOCATIONS = range(1, 60)


class Garbage:
    """An object that only the garbage collector finds, and that then calls ``finalize``."""

    def __init__(self, finalize: Callable[[], object]) -> None:
        self.finalize = finalize
        self.itself = self

    def __del__(self) -> None:
        self.finalize()


@contextlib.contextmanager
def collected_after(allocations: int, finalize: Callable[[], object]) -> Iterator[None]:
    """Call ``finalize`` in a finalizer as soon as some more objects were allocated.

    Python 3.11 and earlier collect garbage in the middle of an allocation, also inside of functions
    in C. Later versions do so between two instructions only.
    """
    thresholds = gc.get_threshold()
    # Python keeps up to 2000 small tuples of each length for later use, which is no allocation.
    used_up = [(*range(length), None) for length in range(3) for _ in range(2100)]
    gc.collect()
    gc.disable()
    Garbage(finalize)
    gc.set_threshold(gc.get_count()[0] + allocations, 1000, 1000)
    gc.enable()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        del used_up
