"""The pipelines, subscribers and monitors of a client, to close what a request leaves open."""

from __future__ import annotations

import logging
import weakref
from typing import Any

from ..runtime.call_stack import Frames, calling_frames, place_of

logger = logging.getLogger(__package__)


class OpenResources:
    """Objects of a client that may hold a connection, with the lines that created them."""

    def __init__(self) -> None:
        # The weak references' callback is the dictionary's own pop(): it runs in C, where a signal
        # handler cannot interrupt it.
        self._made: dict[weakref.ref[Any], Frames] = {}

    def add(self, made: Any) -> None:
        """Remember ``made``, by a weak reference, and the line that created it."""
        self._made[weakref.ref(made, self._made.pop)] = calling_frames(most=1)

    def give_back(self, client: str) -> None:
        """Close every object that still holds a connection, and log a warning for each.

        Errors while closing are logged, not raised.

        :param client: the client's name, for the log.
        """
        for reference in list(self._made):  # atomic, unlike items(), which allocates tuples
            made, frames = reference(), self._made.get(reference)
            connections = _connections_of(made)
            if made is None or not connections or getattr(made, "outlives_request", False):
                continue
            try:
                logger.warning(
                    "%s: %s was left open and is closed now; it was created at %s",
                    client,
                    type(made).__name__,
                    place_of(frames or ()),
                )
                # Disconnect first, or closing would send commands to the server.
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
