"""A pool's housekeeping thread: it closes spare connections, and tells of those held too long."""

from __future__ import annotations

import _thread
import logging
import threading
import weakref
from typing import Protocol

logger = logging.getLogger(__package__)


class Kept(Protocol):
    """A pool, as its housekeeping sees it."""

    def keep_house(self) -> bool:
        """Do what is due; whether there is anything left to look after."""


def start_background(pool: Kept, seconds: float) -> bool:
    """Call ``pool.keep_house()`` every so often, until it says that nothing is left or is gone.

    Under gevent it is a greenlet. Not a :class:`threading.Thread`: to start one takes a lock, and
    a pool may be used by a signal handler that interrupted whoever holds that.

    :param seconds: between two calls.
    :returns: whether it could be started.
    """
    try:
        _thread.start_new_thread(_run, (weakref.ref(pool), seconds))
    except RuntimeError:  # the system has no thread left, or Python is about to end
        return False
    return True


def _run(reference: weakref.ref[Kept], seconds: float) -> None:
    while True:
        # Not time.sleep: an application's tests replace that, in this thread too, and the loop
        # would keep a CPU busy.
        threading.Event().wait(seconds)
        pool = reference()
        try:
            if pool is None or not pool.keep_house():
                return
        except Exception:
            logger.exception("the housekeeping of a connection pool failed")
        del pool
