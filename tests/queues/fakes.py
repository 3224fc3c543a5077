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
    """

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[Any, ...]] = []
        self.calls: list[dict[str, Any]] = []
        self.connection_failures = 0
        self.pool = Pool()

    def poll(
        self, command: tuple[Any, ...], found: Callable[[Any], object], block: float = 0.0
    ) -> Any:
        reply = self._reply((command,), {"block": block})
        self.calls[-1]["is_recorded"] = bool(found(reply))
        return reply

    def send(self, *commands: tuple[Any, ...], **options: Any) -> Any:
        return self._reply(commands, options)

    def transaction(self, name: str, *commands: tuple[Any, ...], **options: Any) -> Any:
        return self._reply(commands, {"name": name, **options})

    def run(self, work: Callable[[Callable[..., Any]], Any]) -> Any:
        return work(lambda *commands, **options: self._reply(commands, options))

    def _reply(self, commands: tuple[tuple[Any, ...], ...], options: dict[str, Any]) -> Any:
        self.asked += commands
        self.calls.append(options)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply() if callable(reply) else reply
