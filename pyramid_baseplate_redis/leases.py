"""Where something was made or taken: what is told of a connection that nobody gives back."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .slots import Slot

logger = logging.getLogger(__name__)

_OURS = __name__.rpartition(".")[0]
_LIBRARIES = ("redis.", f"{_OURS}.")
_MOST_FRAMES = 50

Frames = Sequence[tuple[CodeType, int]]


def calling_frames(most: int = _MOST_FRAMES) -> Frames:
    """The calls that led here, innermost first, redis-py's and this package's own left out.

    Cheaper than :func:`traceback.extract_stack`, which reads the source files. It keeps no frame,
    and so no local variable, alive.

    :param most: how many calls.
    """
    frame = sys._getframe(1)
    frames: list[tuple[CodeType, int]] = []
    while frame is not None and len(frames) < most:
        if frames or not f"{frame.f_globals.get('__name__')}.".startswith(_LIBRARIES):
            frames.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return frames


def place_of(frames: Frames) -> str:
    """The innermost call: ``views.py:17 in home``; never an argument or a variable."""
    if not frames:
        return "an unknown place"
    code, line = frames[0]
    return f"{code.co_filename}:{line} in {code.co_name}"


def stack_of(frames: Any) -> str:
    """All the calls, outermost first, one line each."""
    return "\n".join(
        f"  {code.co_filename}:{line} in {code.co_name}" for code, line in reversed(frames)
    )


def warn_of_leak(client: str, seconds: float, slot: Slot, now: float) -> None:
    """Log, once, where a connection was taken that has been in use for too long.

    :param client: the client's name.
    :param seconds: its ``leak_warning``.
    """
    taken_at = slot.taken_at
    if taken_at is None or slot.warned_at == taken_at or now - taken_at < seconds:
        return
    slot.warned_at = taken_at
    logger.warning(
        "%s: a connection has been in use for %.1f seconds (%s.leak_warning); it was taken at\n%s",
        client,
        now - taken_at,
        client,
        stack_of(slot.taken_by or ()),
    )


class HeldConnections:
    """What a client made that may keep a connection: pipelines, subscribers and the like."""

    def __init__(self) -> None:
        # The dictionary's own method is the callback, which no interruption cuts short.
        self._made: dict[weakref.ref[Any], Frames] = {}

    def add(self, made: Any) -> None:
        """Remember something for as long as it lives, and where it was made."""
        self._made[weakref.ref(made, self._made.pop)] = calling_frames(most=1)

    def give_back(self, client: str) -> None:
        """Close what still has a connection, with a warning.

        :param client: the client's name.
        """
        for reference, frames in tuple(self._made.items()):
            made = reference()
            connections = _connections_of(made)
            if made is None or not connections or getattr(made, "outlives_request", False):
                continue
            try:
                logger.warning(
                    "%s: %s was left open and is closed now; it was made at %s",
                    client,
                    type(made).__name__,
                    place_of(frames),
                )
                # So that closing asks the server for nothing.
                for connection in connections:
                    connection.disconnect()
                made.close()
            except Exception:
                logger.exception("%s: closing %s failed", client, type(made).__name__)


def _connections_of(made: Any) -> list[Any]:
    several: list[Any] | None = getattr(made, "connections", None)
    if several is not None:
        return several
    connection = getattr(made, "connection", None)
    return [] if connection is None else [connection]
