"""The pauses of a consumer that goes on while the server fails, and their two log lines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from logging import Logger
from typing import Any

from redis.backoff import ExponentialWithJitterBackoff

from ..retries import is_passing


class Outage:
    """Pauses between attempts while the server fails, longer each time and with jitter.

    The first failure is logged, and so is the first success after it. Each thread needs its own.

    :param logger: logs the two lines.
    :param name: the beginning of the lines, such as ``queue jobs``.
    :param longest: the longest pause, in seconds.
    :param may_pass: returns whether waiting may help after an error.
    :param pause: sleeps for the given number of seconds.
    """

    def __init__(
        self, logger: Logger, name: str, longest: float = 2.0,
        may_pass: Callable[[BaseException], bool] = is_passing,
        pause: Callable[[float], object] | None = None,
    ) -> None:  # fmt: skip
        self._logger = logger
        self._name = name
        self._may_pass = may_pass
        self._pause = pause
        self._backoff: Any = ExponentialWithJitterBackoff(base=0.1, cap=longest)
        self._failures = 0

    def wait(self, error: Exception) -> bool:
        """Pause after a failed attempt; return whether to try again.

        If waiting does not help, return false at once.
        """
        if not self._may_pass(error):
            return False
        self._failures += 1
        if self._failures == 1:
            self._logger.warning("%s: waiting for the server: %s", self._name, error)
        # Not time.sleep: an application's tests may replace it, and the loop would keep a CPU busy.
        pause = self._pause or threading.Event().wait
        pause(self._backoff.compute(self._failures))
        return True

    def end(self) -> None:
        """Record that an attempt has succeeded."""
        if self._failures:
            self._logger.warning("%s: the server is back", self._name)
            self._failures = 0
