"""Background threads for regular work, such as closing the idle connections of a pool."""

from __future__ import annotations

import _thread
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

logger = logging.getLogger(__package__)


class Kept(Protocol):
    """An object, such as a pool, with regular work to do."""

    def keep_house(self) -> bool:
        """Do the work that is due; return whether there will be more."""


def start_background(pool: Kept, seconds: float) -> bool:
    """Call ``pool.keep_house()`` regularly, until it returns false or ``pool`` is collected.

    :param seconds: the time between two calls.
    :returns: whether the thread could be started.
    """
    return start_thread(_keep_house(weakref.ref(pool), seconds))


def start_thread(steps: Iterator[float], wake: threading.Event | None = None) -> bool:
    """Run a generator in a new daemon thread, or in a greenlet under gevent.

    It ends with the generator. If a fork copies the greenlet, the copy ends after its pause.

    :param steps: does a step of the work, then yields the seconds to pause. It must not refer to an
        object that is to be collected while the thread pauses.
    :param wake: an event that ends a pause early.
    :returns: whether the thread could be started.
    """
    try:
        # Not a threading.Thread: starting one takes a lock, and a signal handler that interrupted
        # the holder of that lock may use a pool.
        _thread.start_new_thread(_run, (steps, wake, os.getpid()))
    except RuntimeError:  # the system has no thread left, or Python is shutting down
        return False
    return True


def _run(steps: Iterator[float], wake: threading.Event | None, pid: int) -> None:
    while os.getpid() == pid and (seconds := next(steps, None)) is not None:
        # Not time.sleep: if an application's tests replace it, this thread gets the replacement
        # too, and the loop would keep a CPU busy.
        event = threading.Event() if wake is None else wake
        event.wait(seconds)
        event.clear()


def _keep_house(reference: weakref.ref[Kept], seconds: float) -> Iterator[float]:
    while True:
        yield seconds
        pool = reference()
        try:
            if pool is None or not pool.keep_house():
                return
        except Exception:
            logger.exception("the housekeeping of a connection pool failed")
        del pool
