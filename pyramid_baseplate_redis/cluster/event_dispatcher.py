"""redis-py's dispatcher of a Cluster's events, made safe for forks."""

from __future__ import annotations

import threading
from typing import Any

from redis.event import EventDispatcher

from ..runtime.process_local import ProcessLocal


class ForkSafeEventDispatcher(EventDispatcher):
    """A dispatcher with a lock of its own in each process.

    A fork copies redis-py's lock while another thread may hold it. In the child, the finalizer of a
    subscriber would wait for it without end.
    """

    def __init__(self) -> None:
        self._locks = ProcessLocal(threading.RLock)
        super().__init__()

    @property
    def _lock(self) -> Any:
        return self._locks.own()

    @_lock.setter
    def _lock(self, value: Any) -> None:
        """Leave out the lock that redis-py makes."""
