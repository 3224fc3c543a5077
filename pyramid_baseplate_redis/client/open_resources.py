"""Where something was made or taken: what is told of a connection that nobody gives back."""

from __future__ import annotations

import logging
import weakref
from typing import Any

from ..runtime.call_stack import Frames, calling_frames, place_of

logger = logging.getLogger(__package__)


class OpenResources:
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
