"""The names, keys and limits of a durable queue, which all of its parts share."""

from __future__ import annotations

import math
import os
import random
import secrets
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from ..runtime.process_local import ProcessLocal

_JITTER = 0.2
_LONGEST_DELAY = 10 * 365 * 86400.0

_token = ProcessLocal(partial(secrets.token_hex, 4))


@dataclass(frozen=True)
class QueueSpec:
    """One durable queue as one consumer uses it.

    :raises ValueError: a number is out of range, or a name is empty.
    """

    name: str
    group: str
    given_consumer: str | None  #: ``None`` is the name of the process
    lease: float  #: seconds
    max_attempts: int
    max_length: int | None  #: ``None`` is no limit
    delay: float | None  #: seconds until a failed message may be received again
    backoff: tuple[float, ...]  #: these seconds instead, one after each failed attempt
    keep_errors: str  #: ``all``, or ``class`` for their classes only
    key: str = field(init=False)  #: the stream
    dead_key: str = field(init=False)  #: the stream of the dead letters
    waiting_key: str = field(init=False)  #: the sorted set of failed messages that wait
    delayed_key: str = field(init=False)  #: the sorted set of delayed messages
    lease_ms: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.name or not self.group:
            raise ValueError("queue: its name or its group is empty. Write a name for both.")
        if not 0.001 <= self.lease < math.inf:
            raise ValueError(
                f"lease: {self.lease!r} seconds is out of range. Write at least 0.001."
            )
        if self.max_attempts < 1 or (self.max_length is not None and self.max_length < 1):
            raise ValueError("max_attempts and max_length: must be 1 or more.")
        if self.keep_errors not in ("all", "class"):
            raise ValueError(f"keep_errors: {self.keep_errors!r} is unknown. Write all or class.")
        for span in (self.delay or 0.0, *self.backoff):
            checked_delay(span)
        key, dead_key = keys_of(self.name)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "dead_key", dead_key)
        object.__setattr__(self, "waiting_key", key.removesuffix("messages") + "waiting")
        object.__setattr__(self, "delayed_key", key.removesuffix("messages") + "delayed")
        object.__setattr__(self, "lease_ms", round(self.lease * 1000))

    @property
    def consumer(self) -> str:
        """The consumer's name in the group; a forked process has its own."""
        return self.given_consumer or process_consumer()

    def later_key(self, message_id: bytes) -> str:
        """Return the key of a delayed message's fields."""
        return f"{self.key.removesuffix('messages')}later:{message_id.decode()}"

    def unique_key(self, unique: bytes) -> bytes:
        """Return the key that a unique message holds."""
        return f"{self.key.removesuffix('messages')}unique:".encode() + unique

    @property
    def keeps_error_texts(self) -> bool:
        """Return whether dead letters keep the texts and tracebacks of errors."""
        return self.keep_errors == "all"

    def wait_after(self, attempts: int) -> float:
        """Return the seconds that a message waits after it has failed.

        A wait of ``backoff`` is changed at random by up to a fifth. Otherwise, messages that failed
        together would come back together.

        :param attempts: how often it was received.
        """
        if self.delay is not None:
            return self.delay
        if not self.backoff:
            return 0.0
        wait = self.backoff[min(attempts, len(self.backoff)) - 1]
        return wait * random.uniform(1 - _JITTER, 1 + _JITTER)


def checked_delay(delay: float | timedelta) -> float:
    """Return a delay in seconds.

    :raises ValueError: it is negative, infinite or longer than ten years.
    """
    seconds = in_seconds(delay)
    if not 0 <= seconds <= _LONGEST_DELAY:
        raise ValueError(f"delay: {seconds!r} is out of range. Write from 0 seconds to ten years.")
    return seconds


def in_seconds(span: float | timedelta) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else span


def keys_of(name: str) -> tuple[str, str]:
    """Return the keys of a queue and of its dead letters, in one slot of a Cluster.

    A name with a hash tag of its own (``{shop}jobs``) keeps it.
    """
    tag = name.partition("{")[2].partition("}")
    tagged = name if tag[0] and tag[1] else f"{{{name}}}"
    return f"{tagged}:messages", f"{tagged}:dead"


def process_consumer() -> str:
    """Return this process's name as a consumer: host, process ID and a random token."""
    return f"{socket.gethostname()}:{os.getpid()}:{_token.own()}"
