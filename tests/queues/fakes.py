"""A clock that the test sets and a scripted server, for the parts of a queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pyramid_baseplate_redis.queues.queue_spec import QueueSpec


def spec_of(**options: Any) -> QueueSpec:
    """Return the queue ``jobs`` as the consumer ``first`` uses it."""
    defaults: dict[str, Any] = {
        "name": "jobs", "group": "workers", "given_consumer": "first", "lease": 10.0,
        "max_attempts": 3, "max_length": None, "delay": None, "backoff": (), "keep_errors": "all",
    }  # fmt: skip
    return QueueSpec(**{**defaults, **options})


class Clock:
    """The time of :func:`time.monotonic`, which only the test changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


class Pool:
    """A connection pool of which only the identity matters."""


class ScriptedServer:
    """Replaces :class:`.StreamCommands`: it returns the given replies in turn.

    A reply that is an exception is raised, and a function is called for the reply.

    :ivar asked: the commands, one after the other.
    :ivar calls: the options of each call.
    :ivar watched: the options of each call of :meth:`watching`.
    """

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[Any, ...]] = []
        self.calls: list[dict[str, Any]] = []
        self.watched: list[dict[str, Any]] = []
        self.connection_failures = 0
        self.pool = Pool()
        self.server_span: Any = None

    def poll(
        self, command: tuple[Any, ...], found: Callable[[Any], object], block: float = 0.0
    ) -> Any:
        reply = self.reply_to((command,), {"block": block})
        self.calls[-1]["is_recorded"] = bool(found(reply))
        return reply

    def poll_with(
        self, command: tuple[Any, ...], found: Callable[[Any], object], *others: tuple[Any, ...],
        block: float = 0.0,
    ) -> Any:  # fmt: skip
        replies = self.reply_to((command, *others), {"block": block})
        self.calls[-1]["is_recorded"] = bool(found(replies[0]))
        return replies

    def send(self, *commands: tuple[Any, ...], **options: Any) -> Any:
        return self.reply_to(commands, options)

    def transaction(self, name: str, *commands: tuple[Any, ...], **options: Any) -> Any:
        return self.reply_to(commands, {"name": name, **options})

    def run(self, work: Callable[[Any], Any]) -> Any:
        return work(ScriptedConnection(self))

    def watching(
        self, keys: Any, name: str, commands: Any, work: Callable[[Any], Any],
        settlement: Any = None, **options: Any,
    ) -> Any:  # fmt: skip
        shown = {"keys": keys, "name": name, "commands": list(commands), "settlement": settlement}
        self.watched.append({**shown, **options})
        return work(ScriptedConnection(self))

    def reply_to(self, commands: tuple[tuple[Any, ...], ...], options: dict[str, Any]) -> Any:
        self.asked += commands
        self.calls.append(options)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply() if callable(reply) else reply


class ScriptedConnection:
    """Replaces :class:`.RawCommands` on a scripted server."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def __call__(self, *commands: tuple[Any, ...], **options: Any) -> Any:
        return self._server.reply_to(commands, options)

    def transaction(self, *commands: tuple[Any, ...]) -> Any:
        return self._server.reply_to((("MULTI",), *commands, ("EXEC",)), {})


class Connection:
    """Replaces a connection of redis-py: it has these replies."""

    def __init__(self, *replies: Any, socket_timeout: float | None = 3.0) -> None:
        self.socket_timeout = socket_timeout
        self.replies = list(replies)
        self.sent: list[Any] = []
        self.timeouts: list[Any] = []
        self.disconnected = 0

    def send_command(self, *command: Any) -> None:
        self.sent.append(command)

    def pack_commands(self, commands: Any) -> Any:
        return list(commands)

    def send_packed_command(self, packed: Any) -> None:
        self.sent += packed

    def read_response(self, *, disable_decoding: bool, timeout: Any = "usual") -> Any:
        assert disable_decoding
        self.timeouts.append(timeout)
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def disconnect(self) -> None:
        self.disconnected += 1
