"""Record calls, with the times at which they began and ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["unknown", "returned", "failed"]


@dataclass(eq=False)
class Call:
    """A call of a client.

    :param process: the thread, greenlet or process that called.
    :param key: what was called: a key, or a queue.
    :param kind: what the call does, such as ``"write"``; the checkers list theirs.
    :param argument: what was asked.
    """

    process: str
    key: str
    kind: str
    argument: Any
    began: int
    ended: int | None = None
    value: Any = None
    outcome: Outcome = "unknown"

    def returned(self, value: Any = None) -> None:
        """The call has returned ``value``."""
        self.value, self.outcome = value, "returned"
        self.ended = time.monotonic_ns()

    def failed(self, error: BaseException | str, *, definite: bool) -> None:
        """The call has failed.

        :param definite: whether the server certainly did nothing, such as after a refused
            connection. After a lost reply it may have done it, and may do so later.
        """
        # Not the exception: its traceback would keep connections open.
        self.value = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.outcome = "failed" if definite else "unknown"
        self.ended = time.monotonic_ns()

    def __str__(self) -> str:
        ended = "never" if self.ended is None else f"{self.ended / 1e9:.6f}"
        asked = "" if self.argument is None else f" {self.argument!r}"
        return (
            f"{self.process}: {self.kind} {self.key}{asked} {self.outcome} {self.value!r} "
            f"({self.began / 1e9:.6f} to {ended})"
        )


@dataclass
class History:
    """The calls of all clients, in the order in which they began.

    Appending to a list is one step of CPython, so threads and greenlets share a history.
    """

    calls: list[Call] = field(default_factory=list)

    def call(self, process: str, key: str, kind: str, argument: Any = None) -> Call:
        """Record that a call begins, before the client sends anything."""
        call = Call(process, key, kind, argument, time.monotonic_ns())
        self.calls.append(call)
        return call
