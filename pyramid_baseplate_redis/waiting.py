"""How long a command waited for a connection: noted by the pool, told by the command's span.

A context variable, since the wait happens deep in redis-py while the span is held by the caller,
in the same thread or greenlet.
"""

from __future__ import annotations

from contextvars import ContextVar

_waited: ContextVar[float] = ContextVar("pyramid_baseplate_redis_waited", default=0.0)


def add_wait_time(seconds: float) -> None:
    """Note that this thread or greenlet waited for a connection."""
    _waited.set(_waited.get() + seconds)


def take_wait_time() -> float:
    """Seconds that this thread or greenlet waited for a connection since the last call."""
    seconds = _waited.get()
    if seconds:
        _waited.set(0.0)
    return seconds
