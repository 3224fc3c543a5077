"""Details of a call for its span: waiting time, server and peer, redirections, retries.

Pools and connections learn them deep inside redis-py, while the caller holds the span. They travel
in a context variable, since both run in the same thread or greenlet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .semantic_conventions import (
    NETWORK_PEER_ADDRESS,
    NETWORK_PEER_PORT,
    SERVER_ADDRESS,
    SERVER_PORT,
)

Peer = tuple[str, int]  # IP address and port
P = ParamSpec("P")
T = TypeVar("T")


class CallDetails:
    """The details of one command, or of one pipeline."""

    __slots__ = (
        "peer", "redirections", "retries", "server", "server_is_told", "servers", "waited",
    )  # fmt: skip

    def __init__(self) -> None:
        self.waited = 0.0  # seconds spent waiting for a connection
        self.redirections = 0  # MOVED, ASK and TRYAGAIN replies of a Cluster
        self.retries = 0
        self.server: tuple[str, int] | None = None  # host and port of the last connection
        self.peer: Peer | None = None  # of the last connection, if the span may not have it
        self.servers = 0  # how many were used, one after the other
        self.server_is_told = False  # whether the span has it already

    @property
    def is_of_one_server(self) -> bool:
        """Return whether one server answered.

        False if several servers were used, unless each redirected the command to the next or
        failed before a retry.
        """
        return self.server is not None and self.servers <= self.redirections + self.retries + 1

    @property
    def is_ordinary(self) -> bool:
        """Return whether the call went through at once: no waiting, no retry, no redirection."""
        return not (self.waited or self.retries or self.redirections)


_notes: ContextVar[CallDetails | None] = ContextVar("pyramid_baseplate_redis_notes", default=None)


#: Return details that this thread or greenlet has recorded, if there are any; a cheap check.
has_call_details = _notes.get


def _taken() -> CallDetails:
    notes = _notes.get()
    if notes is None:
        notes = CallDetails()
        _notes.set(notes)
    return notes


def add_wait_time(seconds: float) -> None:
    """Record that this thread or greenlet waited for a connection."""
    _taken().waited += seconds


def note_peer(peer: Peer | None) -> None:
    """Record the address that a connection leads to."""
    _taken().peer = peer


class Peers:
    """The addresses that the connections of a pool lead to.

    While there is only one, a span gets it at its start, which costs the least. Afterward each
    connection notes its own with each command.
    """

    def __init__(self) -> None:
        self.only: Peer | None = None
        self.are_several = False
        self._seen: set[Peer | None] = set()

    def add(self, peer: Peer | None) -> None:
        """Record the address of a connection that has just connected; ``None`` for no address."""
        note_peer(peer)  # for the command that connects
        if self.are_several:
            return
        # Without a lock, since a signal handler may connect, too. If a thread sets ``only`` late,
        # ``are_several`` is already true, and the connections correct the spans.
        self._seen.add(peer)
        if len(self._seen) == 1:
            self.only = peer
        else:
            self.only, self.are_several = None, True


def note_server(host: str, port: int, peer: Peer | None = None) -> None:
    """Record which server a connection leads to, if the settings do not contain it.

    :param peer: the address, if the connection is connected.
    """
    notes = _notes.get()
    if notes is None:
        notes = CallDetails()
        _notes.set(notes)
    notes.peer = peer
    server = (host, port)
    if notes.server != server:
        notes.server = server
        notes.servers += 1


def note_last_server(host: str, port: int) -> None:
    """Record the last server of a command, and forget those that failed before."""
    notes = _taken()
    server = (host, port)
    if notes.server != server:
        notes.server = server
        notes.peer = None  # the connection notes it when it has connected
    notes.servers = 1


def note_redirection() -> None:
    """Record that a node of a Cluster redirected the command."""
    _taken().redirections += 1


def forget_redirection() -> None:
    """Remove the last redirection, since the server will send it again."""
    notes = _taken()
    notes.redirections = max(0, notes.redirections - 1)


def without_details(call: Callable[P, T]) -> Callable[P, T]:
    """Wrap ``call`` so that its servers and redirections are not recorded.

    It is for internal calls that prepare a command, such as loading the nodes of a Cluster.
    """

    @wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        notes = _taken()
        kept = notes.server, notes.peer, notes.servers, notes.redirections
        try:
            return call(*args, **kwargs)
        finally:
            notes.server, notes.peer, notes.servers, notes.redirections = kept

    return wrapped


def note_retries(count: int) -> None:
    """Record how many times the command was retried."""
    _taken().retries = count


def note_retry() -> None:
    """Record one more retry of the command."""
    _taken().retries += 1


def pop_call_details() -> CallDetails | None:
    """Return the details that this thread or greenlet recorded since the last call, if any."""
    notes = _notes.get()
    if notes is not None:
        _notes.set(None)
    return notes


def address_attributes(server: tuple[str, int] | None, peer: Peer | None) -> dict[str, str | int]:
    """Return the attributes for a server and the peer of its connection, if they are known."""
    found: dict[str, str | int] = {}
    if server is not None:
        found[SERVER_ADDRESS], found[SERVER_PORT] = server
    if peer is not None:
        found[NETWORK_PEER_ADDRESS], found[NETWORK_PEER_PORT] = peer
    return found


def server_attributes(connection_kwargs: Mapping[str, Any]) -> dict[str, str | int]:
    """Return the attributes for the server that a pool's settings name."""
    if "directory" in connection_kwargs:
        return {SERVER_ADDRESS: "embedded"}
    if "path" in connection_kwargs:
        return {SERVER_ADDRESS: str(connection_kwargs["path"])}
    if "host" not in connection_kwargs:
        return {}  # with Sentinel it is known only when there is a connection
    return {
        SERVER_ADDRESS: str(connection_kwargs["host"]),
        SERVER_PORT: int(connection_kwargs.get("port") or 6379),
    }
