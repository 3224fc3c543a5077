"""A connection that knows its holder: the process that checked it out, until it is released."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from redis.connection import AbstractConnection

from ..exceptions import ForkedConnectionError, PoolReleaseError
from .error_messages import address_of

RELEASED = 0  # no process has this number


class OwnedConnection(AbstractConnection):
    """A mixin for connection classes that refuses all but the connection's holder.

    Each caller gets an object of its own from the pool. On release, the state moves into a new
    object, and the object that the caller still holds is dead: using it or releasing it again
    raises an error and does not affect the connection's next user. Objects for the same connection
    are equal.
    """

    pid: int
    client = ""
    is_node = False  # the server is a node of a Cluster
    #: Maps the address to which a node redirects; ``None`` if it is the one to connect to.
    address_remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None
    is_unpooled = False  # it has no slot: release() closes it

    def reissue(self) -> OwnedConnection:
        """Move the state into a new object and return that; this object is dead from now on."""
        fresh: OwnedConnection = object.__new__(type(self))
        # A copy: if two threads release the connection at once, the slower one may still have the
        # old dictionary in hand, and must not find the next caller's slot in it.
        state = self.__dict__.copy()
        fresh.__dict__ = state
        dead = {"pid": RELEASED, "_identity": state["_identity"]}
        if "is_node" in state:  # a Cluster client reads the address of a failed connection
            dead |= _address_in(state)
        self.__dict__ = dead
        return fresh

    def bury(self) -> None:
        """Make this object dead, whose connection was closed when it was released.

        It keeps its address, which redis-py reads to record the error that closed the connection.
        """
        state = self.__dict__
        identity = {"pid": RELEASED, "_identity": state["_identity"]}
        self.__dict__ = {**identity, **_address_in(state)}

    def check_owner(self) -> None:
        """Refuse a connection that another process checked out, or that was released.

        :raises ForkedConnectionError: the parent process checked it out before a fork.
        :raises PoolReleaseError: it was released before.
        """
        if self.pid != os.getpid():
            raise self._not_ours()

    def _adopt(self) -> None:
        """Make it a connection of this process."""
        self.pid = os.getpid()
        self.is_unpooled = True

    def _not_ours(self) -> Exception:
        if self.pid == RELEASED:
            return PoolReleaseError("this connection was used after it had been released")
        return ForkedConnectionError(
            f"{self.client}: this connection to {address_of(self)} was checked out by process "
            f"{self.pid}, from which process {os.getpid()} was forked. Make a new client, pipeline "
            "or subscriber in this process."
        )

    def __getattr__(self, name: str) -> Any:
        if name != "pid" and not name.startswith("__") and self.pid == RELEASED:
            raise self._not_ours()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnedConnection) and _identity(self) is _identity(other)

    def __hash__(self) -> int:
        return id(_identity(self))

    def __repr__(self) -> str:
        if self.pid == RELEASED:
            return f"<{type(self).__name__} (released)>"
        shown: str = super().__repr__()
        return shown

    def __del__(self) -> None:
        if self.__dict__.get("pid", RELEASED) != RELEASED:
            super().__del__()


def _identity(connection: OwnedConnection) -> object:
    return connection.__dict__.get("_identity", connection)


def _address_in(state: dict[str, Any]) -> dict[str, Any]:
    """Return the address in a connection's state, which is ``None`` for a Unix socket."""
    host = state.get("_host")
    return {"_host": host, "host": host, "port": state.get("port"), "db": state.get("db")}
