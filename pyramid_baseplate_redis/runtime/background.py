"""Background threads for regular work, such as closing the idle connections of a pool."""

from __future__ import annotations

import _thread
import logging
import threading
import weakref
from typing import Protocol

logger = logging.getLogger(__package__)


class Kept(Protocol):
    """An object, such as a pool, with regular work to do."""

    def keep_house(self) -> bool:
        """Do the work that is due; return whether there will be more."""


def start_background(pool: Kept, seconds: float) -> bool:
    """Call ``pool.keep_house()`` regularly, until it returns false or ``pool`` is collected.

    The calls are made in a new thread, or a greenlet under gevent. It is not a
    :class:`threading.Thread`: starting one takes a lock, and a pool may be used by a signal handler
    that interrupted the holder of that lock.

    :param seconds: the time between two calls.
    :returns: whether the thread could be started.
    """
    try:
        _thread.start_new_thread(_run, (weakref.ref(pool), seconds))
    except RuntimeError:  # the system has no thread left, or Python is shutting down
        return False
    return True


def _run(reference: weakref.ref[Kept], seconds: float) -> None:
    while True:
        # Not time.sleep: if an application's tests replace it, this thread gets the replacement
        # too, and the loop would keep a CPU busy.
        threading.Event().wait(seconds)
        pool = reference()
        try:
            if pool is None or not pool.keep_house():
                return
        except Exception:
            logger.exception("the housekeeping of a connection pool failed")
        del pool
