"""Feature flags in the Redis hash ``flags``, as ``request.flags``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from hashlib import sha256

from pyramid.config import Configurator
from pyramid.request import Request
from redis.exceptions import RedisClusterException, RedisError

from pyramid_baseplate_redis import MonitoredRedisConnection

logger = logging.getLogger(__name__)

MAX_AGE = 1.0  # seconds for which a process uses the flags that it has read
DEADLINE = 0.1  # seconds that a request may spend on reading them
WORDS = {"on": "100", "off": "0"}


def includeme(config: Configurator) -> None:
    """Add ``request.flags``. All requests of the process share what was read."""
    cache = FlagCache()

    def flags(request: Request) -> Flags:
        return Flags(cache.percentages(request.store), request)

    config.add_request_method(flags, reify=True)


class Flags:
    """The flags as they are for one request, from its first question to its end."""

    def __init__(self, percentages: Mapping[str, float], request: Request) -> None:
        self._percentages = percentages
        self._request = request

    def enabled(self, name: str, default: bool = False) -> bool:
        """Return whether a flag is on for the user of this request.

        :param default: the answer if the flag is not in Redis, or Redis was never reached.
        """
        percentage = self._percentages.get(name)
        if percentage is None:
            return default
        if 0 < percentage < 100:
            user = self._request.authenticated_userid
            return user is not None and place_of(name, str(user)) < percentage
        return percentage > 0


class FlagCache:
    """The percentages that this process has read. Threads share it."""

    def __init__(self) -> None:
        self._percentages: Mapping[str, float] = {}
        self._old_at = 0.0
        self._lock = threading.Lock()

    def percentages(self, client: MonitoredRedisConnection) -> Mapping[str, float]:
        """Return the percentage of each flag. At most one thread asks Redis for them."""
        is_first = self._old_at == 0.0  # nothing was read yet, so other threads wait for it
        if time.monotonic() >= self._old_at and self._lock.acquire(blocking=is_first):
            try:
                if time.monotonic() >= self._old_at:
                    self._read(client)
            finally:
                self._lock.release()
        return self._percentages

    def _read(self, client: MonitoredRedisConnection) -> None:
        try:
            with client.within(DEADLINE) as limited:
                self._percentages = parse(limited.hgetall("flags"))
        except (RedisError, RedisClusterException):
            logger.warning("Redis has no answer; the flags stay as they were", exc_info=True)
        finally:
            self._old_at = time.monotonic() + MAX_AGE


def parse(found: Mapping[bytes | str, bytes | str]) -> Mapping[str, float]:
    """Read ``on``, ``off`` and percentages. Leave out and log anything else."""
    percentages = {}
    for name, value in ((text(name), text(value)) for name, value in found.items()):
        try:
            percentage = float(WORDS.get(value, value))
            if not 0 <= percentage <= 100:
                raise ValueError(percentage)
            percentages[name] = percentage
        except ValueError:
            logger.warning("flag %r: %r is not on, off or a percentage", name, value)
    return percentages


def text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def place_of(name: str, user: str) -> float:
    """Return a number from 0 to below 100: the same one for a user, another one for each flag."""
    digest = sha256(f"{name}:{user}".encode()).digest()
    return int.from_bytes(digest[:4], "big") * 100 / 2**32
