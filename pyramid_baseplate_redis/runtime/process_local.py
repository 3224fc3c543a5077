"""Objects of which each process has its own: a fork copies an object, but not its threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ProcessLocal(Generic[T]):
    """Makes one object for each process, when the process first asks for it.

    It has no lock, since a thread might hold that during a fork. If several threads ask at once,
    all get the object that was stored first.

    :param make: returns a new object.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def own(self) -> T:
        """Return this process's object."""
        pid = os.getpid()
        made = self._made.get(pid)
        if made is None:
            made = self._made.setdefault(pid, self._make())
            for other in list(self._made):
                if other != pid:
                    self._made.pop(other, None)
        return made
