"""The block in which received messages are processed, and settled at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Generic, TypeVar

from ...telemetry.messaging.spans import MessageSpan
from ..messages import DurableMessage
from ..queue_spec import checked_delay
from .receiver import Receiver

R = TypeVar("R")


class Delivery(Generic[R]):
    """The block in which received messages are processed; see :meth:`.DurableMessageQueue.receive`.

    :param choose: returns the value of ``with`` for the received messages.
    """

    def __init__(
        self, receiver: Receiver, count: int, timeout: float | None,
        delay: float | timedelta | None, choose: Callable[[list[DurableMessage]], R],
    ) -> None:  # fmt: skip
        self._receiver = receiver
        self._count = count
        self._timeout = timeout
        self._delay = None if delay is None else checked_delay(delay)
        self._choose = choose
        self._messages: list[DurableMessage] = []
        self._processing: MessageSpan | None = None
        self._started = 0.0

    def __enter__(self) -> R:
        """Wait for messages."""
        self._messages = self._receiver.wait(self._count, self._timeout)
        self._started = time.perf_counter()
        self._processing = self._receiver.start_processing(self._messages)
        return self._choose(self._messages)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        """Settle the messages."""
        try:
            self._receiver.leave(self._messages, error, self._delay)
        except BaseException as failure:
            error = error or failure
            raise
        finally:
            self._receiver.stop_processing(self._processing, self._started, error)
