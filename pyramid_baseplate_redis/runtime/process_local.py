"""What each process has of its own: a fork copies an object, but not the threads that share it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ProcessLocal(Generic[T]):
    """Makes one object for each process, when it first asks.

    Without a lock, which a thread may have had when the process was forked: whoever comes first
    among threads makes the object that all have.

    :param make: makes one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def own(self) -> T:
        """This process's."""
        pid = os.getpid()
        made = self._made.get(pid)
        if made is None:
            made = self._made.setdefault(pid, self._make())
            for other in list(self._made):
                if other != pid:
                    self._made.pop(other, None)
        return made
