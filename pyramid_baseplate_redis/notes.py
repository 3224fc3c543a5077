"""What pools and connections note of a command for its span: the wait, the server, redirections.

A context variable, since that happens deep in redis-py while the span is held by the caller, in the
same thread or greenlet.
"""

from __future__ import annotations

from contextvars import ContextVar


class Notes:
    """What was noted of one command, or of one pipeline."""

    __slots__ = ("redirections", "server", "servers", "waited")

    def __init__(self) -> None:
        self.waited = 0.0  # seconds, for a connection
        self.redirections = 0  # by a Cluster: MOVED, ASK, TRYAGAIN
        self.server: tuple[str, int] | None = None  # that had a connection last
        self.servers = 0  # how many, one after the other


_notes: ContextVar[Notes | None] = ContextVar("pyramid_baseplate_redis_notes", default=None)


def _taken() -> Notes:
    notes = _notes.get()
    if notes is None:
        notes = Notes()
        _notes.set(notes)
    return notes


def add_wait_time(seconds: float) -> None:
    """Note that this thread or greenlet waited for a connection."""
    _taken().waited += seconds


def note_server(host: str, port: int) -> None:
    """Note which server a connection goes to, where the settings don't say."""
    notes = _taken()
    if notes.server != (host, port):
        notes.server = (host, port)
        notes.servers += 1


def note_redirection() -> None:
    """Note that a node of a Cluster sent the command elsewhere."""
    _taken().redirections += 1


def take_notes() -> Notes | None:
    """What this thread or greenlet noted since the last call; ``None`` is nothing."""
    notes = _notes.get()
    if notes is not None:
        _notes.set(None)
    return notes
