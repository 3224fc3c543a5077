"""Details of a call for its span: waiting time, server, redirections, retries.

Pools and connections learn them deep inside redis-py, while the caller holds the span. They travel
in a context variable, since both run in the same thread or greenlet.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class CallDetails:
    """The details of one command, or of one pipeline."""

    __slots__ = ("redirections", "retries", "server", "server_is_told", "servers", "waited")

    def __init__(self) -> None:
        self.waited = 0.0  # seconds spent waiting for a connection
        self.redirections = 0  # MOVED, ASK and TRYAGAIN replies of a Cluster
        self.retries = 0
        self.server: tuple[str, int] | None = None  # host and port of the last connection
        self.servers = 0  # how many were used, one after the other
        self.server_is_told = False  # whether the span has it already

    @property
    def is_of_one_server(self) -> bool:
        """Return whether one server answered.

        False if several servers were used, unless each redirected the command to the next or
        failed before a retry.
        """
        return self.server is not None and self.servers <= self.redirections + self.retries + 1


_notes: ContextVar[CallDetails | None] = ContextVar("pyramid_baseplate_redis_notes", default=None)


def _taken() -> CallDetails:
    notes = _notes.get()
    if notes is None:
        notes = CallDetails()
        _notes.set(notes)
    return notes


def add_wait_time(seconds: float) -> None:
    """Record that this thread or greenlet waited for a connection."""
    _taken().waited += seconds


def note_server(host: str, port: int) -> None:
    """Record which server a connection leads to, if the settings do not contain it."""
    notes = _notes.get()
    if notes is None:
        notes = CallDetails()
        _notes.set(notes)
    server = (host, port)
    if notes.server != server:
        notes.server = server
        notes.servers += 1


def note_last_server(host: str, port: int) -> None:
    """Record the last server of a command, and forget those that failed before."""
    notes = _taken()
    notes.server = (host, port)
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
        kept = notes.server, notes.servers, notes.redirections
        try:
            return call(*args, **kwargs)
        finally:
            notes.server, notes.servers, notes.redirections = kept

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
