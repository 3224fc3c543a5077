"""Marks of an operation: many, slow, waiting, large."""

from __future__ import annotations

from .quantities import milliseconds
from .records import MOST_VALUES, RecordedOperation, ReplySize

MANY = 5  # operations with one name from one line
SLOW_SECONDS = 0.1
LARGE_BYTES = 100_000

#: The mark of each kind of suggestion, and its meaning.
MEANINGS = {
    "many": f"{MANY} or more operations of one name from one line",
    "slow": f"an operation took {milliseconds(SLOW_SECONDS)} or more",
    "waiting": f"an operation waited {milliseconds(SLOW_SECONDS)} or more for a connection",
    "large": f"a reply of {LARGE_BYTES // 1000} kB or more, or of more than {MOST_VALUES:,} values",
}


def marks_of(operation: RecordedOperation, is_blocking: bool = False) -> tuple[str, ...]:
    """Return the marks of one operation.

    :param is_blocking: True for a command that waits on the server, as BLPOP does. It is not slow.
    """
    marks = {
        "slow": is_slow(operation.executed) and not is_blocking,
        "waiting": is_slow(operation.waited),
        "large": is_large(operation.size),
    }
    return tuple(mark for mark, applies in marks.items() if applies)


def is_slow(seconds: float) -> bool:
    """Return whether a duration is at least 100 ms."""
    return seconds >= SLOW_SECONDS


def is_large(size: ReplySize) -> bool:
    """Return whether a reply has at least 100 kB or more than 10,000 values."""
    return size.bytes >= LARGE_BYTES or size.is_least
