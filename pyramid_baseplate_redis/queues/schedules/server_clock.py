"""The server's time, by which messages become due, without asking for it each time."""

from __future__ import annotations

import time

from ..stream_commands import StreamCommands

# The offset is asked for anew after this time, since either clock may be set.
_VALID_SECONDS = 10.0


class ServerClock:
    """Converts between the server's clock and :func:`time.monotonic`.

    The offset between the two is remembered. It is asked for again after a while, and after a
    connection has failed: another server may have taken over, whose clock differs.
    """

    def __init__(self, commands: StreamCommands) -> None:
        self._commands = commands
        self._offset = 0.0  # seconds
        self._valid_until = 0.0
        self._failures = -1

    def now(self) -> float:
        """Return the server's time in milliseconds since the epoch.

        :raises redis.RedisError: the server failed.
        """
        offset = self._renewed_offset()  # before the clock is read: it may take a round trip
        return (time.monotonic() + offset) * 1000

    def monotonic(self, milliseconds: float) -> float:
        """Return when the server's clock shows a time, as :func:`time.monotonic` shows it.

        :param milliseconds: the time since the epoch.
        :raises redis.RedisError: the server failed.
        """
        return milliseconds / 1000 - self._renewed_offset()

    def _renewed_offset(self) -> float:
        failures = self._commands.connection_failures
        asked = time.monotonic()
        if asked >= self._valid_until or failures != self._failures:
            seconds, microseconds = self._commands.poll(("TIME",), lambda reply: False)
            answered = time.monotonic()
            self._offset = int(seconds) + int(microseconds) / 1e6 - (asked + answered) / 2
            self._failures = failures
            self._valid_until = answered + _VALID_SECONDS
        return self._offset
