"""What pools and connections note of a command for its span: the wait, the server, redirections.

A context variable, since that happens deep in redis-py while the span is held by the caller, in the
same thread or greenlet.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class CallDetails:
    """What was noted of one command, or of one pipeline."""

    __slots__ = ("redirections", "retries", "server", "server_is_told", "servers", "waited")

    def __init__(self) -> None:
        self.waited = 0.0  # seconds, for a connection
        self.redirections = 0  # by a Cluster: MOVED, ASK, TRYAGAIN
        self.retries = 0
        self.server: tuple[str, int] | None = None  # that had a connection last
        self.servers = 0  # how many, one after the other
        self.server_is_told = False  # to the span

    @property
    def is_of_one_server(self) -> bool:
        """Of several none is the one, unless one sent the command to the next."""
        return self.server is not None and self.servers <= self.redirections + self.retries + 1


_notes: ContextVar[CallDetails | None] = ContextVar("pyramid_baseplate_redis_notes", default=None)


def _taken() -> CallDetails:
    notes = _notes.get()
    if notes is None:
        notes = CallDetails()
        _notes.set(notes)
    return notes


def add_wait_time(seconds: float) -> None:
    """Note that this thread or greenlet waited for a connection."""
    _taken().waited += seconds


def note_server(host: str, port: int) -> None:
    """Note which server a connection goes to, where the settings don't say."""
    notes = _notes.get()
    if notes is None:
        notes = CallDetails()
        _notes.set(notes)
    server = (host, port)
    if notes.server != server:
        notes.server = server
        notes.servers += 1


def note_last_server(host: str, port: int) -> None:
    """Note which server a command went to last, where others have only failed before."""
    notes = _taken()
    notes.server = (host, port)
    notes.servers = 1


def note_redirection() -> None:
    """Note that a node of a Cluster sent the command elsewhere."""
    _taken().redirections += 1


def forget_redirection() -> None:
    """The last redirection isn't to be counted, since it will come again."""
    notes = _taken()
    notes.redirections = max(0, notes.redirections - 1)


def without_details(call: Callable[P, T]) -> Callable[P, T]:
    """``call``, whose servers and redirections aren't noted: it asks for what a command needs."""

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
    """Note how often the command was tried again."""
    _taken().retries = count


def note_retry() -> None:
    """Note that the command is tried once more."""
    _taken().retries += 1


def pop_call_details() -> CallDetails | None:
    """What this thread or greenlet noted since the last call; ``None`` is nothing."""
    notes = _notes.get()
    if notes is not None:
        _notes.set(None)
    return notes
