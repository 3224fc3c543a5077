"""The circuit breaker: while a server fails, requests fail at once instead of waiting for it.

Of the libraries, pybreaker holds a lock during each call, which makes threads take turns, and
circuitbreaker lets everybody probe at once.
"""

from __future__ import annotations

import time
import weakref

import redis

from ..exceptions import CircuitOpenError

# Errors that say that the server is there, or that it wasn't asked at all.
_ANSWERS = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.BusyLoadingError,
    redis.exceptions.MaxConnectionsError,
    CircuitOpenError,
)


class Probe:
    """Whoever holds this tries whether the server is back; it lasts as long as the object."""

    __slots__ = ("__weakref__",)


class CircuitBreaker:
    """Counts a server's failures in a row, and says for how long it isn't asked.

    No locks: see :mod:`.fair_queue`. Threads that fail at the same moment may be counted as one.

    :param name: the client's, for messages.
    :param server: the server's address, for messages.
    :param failures: so many connection failures in a row open it.
    :param reset: seconds that it stays open before one caller may try.
    """

    def __init__(self, name: str, failures: int, reset: float, server: str = "") -> None:
        self.name = name
        self.server = server
        self.failures = failures
        self.reset = reset
        self._failed = 0
        self._opened_at = 0.0
        # The probe of each period of ``reset`` seconds since it opened: who sets it, has it.
        self._probes: dict[int, weakref.ref[Probe]] = {}

    @property
    def is_open(self) -> bool:
        """Whether requests fail at once, but for one that tries."""
        return self._failed >= self.failures

    def enter(self) -> Probe | None:
        """Ask whether the server may be asked.

        :returns: a probe, to be held until the server has answered, if this caller is the one who
            tries; ``None`` while the breaker is closed.
        :raises CircuitOpenError: if it is open.
        """
        if self._failed < self.failures:
            return None
        period = int((time.monotonic() - self._opened_at) / self.reset)
        probes = self._probes
        if period > 0 and not any(ref() is not None for ref in tuple(probes.values())):
            probe = Probe()
            mine = weakref.ref(probe)
            if probes.setdefault(period, mine) is mine:
                return probe
        raise CircuitOpenError(
            f"{self.name}: {self.server or 'the server'} failed {self.failures} times in a row "
            f"({self.name}.breaker_failures); it is asked again after {self.reset:g} seconds "
            f"({self.name}.breaker_reset)"
        )

    def succeeded(self) -> None:
        """The server has answered."""
        if self._failed:
            self._failed = 0

    def failed(self, error: BaseException) -> None:
        """The server has failed; errors that are answers don't count."""
        if isinstance(error, _ANSWERS):
            return
        self._failed += 1
        if self._failed >= self.failures:
            self._opened_at = time.monotonic()
            self._probes = {}
