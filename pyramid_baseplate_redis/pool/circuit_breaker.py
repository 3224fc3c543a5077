"""The circuit breaker: while a server fails, requests fail at once instead of waiting for it.

It is our own because pybreaker holds a lock during each call, so that only one thread at a time
can call the server, and circuitbreaker lets all callers probe the server at once.
"""

from __future__ import annotations

import time

import redis

from ..exceptions import CircuitOpenError
from ..runtime.claims import Claim, Claims

# Errors that count as answers: the server is alive, or nothing was sent to it.
_ANSWERS = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.BusyLoadingError,
    redis.exceptions.MaxConnectionsError,
    CircuitOpenError,
)


class CircuitBreaker:
    """Count the consecutive failures of a server, and refuse callers while there are too many.

    There are no locks, see :mod:`.fair_queue`. Threads that fail at the same moment may be counted
    as one.

    :param name: the client's name, for messages.
    :param server: the server's address, for messages.
    :param failures: the number of consecutive connection failures that opens the breaker.
    :param reset: seconds that it stays open before one caller may probe the server.
    """

    def __init__(self, name: str, failures: int, reset: float, server: str = "") -> None:
        self.name = name
        self.server = server
        self.failures = failures
        self.reset = reset
        self._failed = 0
        self._opened_at = 0.0
        # An entry for each period of ``reset`` seconds since the breaker opened in which a caller
        # has probed. The thread that sets the entry may probe.
        self._periods: dict[int, object] = {}
        # A failure does not end the probe: it may be that of a call from before.
        self._probes = Claims()

    @property
    def is_open(self) -> bool:
        """Return whether requests fail at once, except for one probe at a time."""
        return self._failed >= self.failures

    def enter(self) -> Claim | None:
        """Let the caller pass, or raise.

        :returns: a probe, if the caller probes the server: hold it until the server has answered.
            ``None`` while the breaker is closed.
        :raises CircuitOpenError: the breaker is open, and this caller may not probe.
        """
        if self._failed < self.failures:
            return None
        period = int((time.monotonic() - self._opened_at) / self.reset)
        periods = self._periods
        probe = self._probes.take() if period > 0 else None
        if probe is not None:
            mine = object()
            if periods.setdefault(period, mine) is mine:
                return probe
            probe = None  # it ends now, even if the traceback of the error is kept
        times = "once" if self.failures == 1 else f"{self.failures} times in a row"
        raise CircuitOpenError(
            f"{self.name}: {self.server or 'the server'} failed {times} "
            f"({self.name}.breaker_failures). It is tried again after {self.reset:g} seconds "
            f"({self.name}.breaker_reset)."
        )

    def succeeded(self) -> None:
        """Record that the server has answered, which closes the breaker."""
        if self._failed:
            self._failed = 0

    def failed(self, error: BaseException) -> None:
        """Record a failure; errors that are answers don't count."""
        if isinstance(error, _ANSWERS):
            return
        self._failed += 1
        if self._failed >= self.failures:
            self._opened_at = time.monotonic()
            self._periods = {}
