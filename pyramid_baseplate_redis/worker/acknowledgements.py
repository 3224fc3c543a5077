"""Acknowledges the messages of a worker in batches."""

from __future__ import annotations

import logging
import threading

from ..exceptions import LeaseLostError
from ..queues.messages import DurableMessage
from ..queues.receiving.receiver import Receiver

logger = logging.getLogger(__package__)


class Acknowledgements:
    """Messages that were processed and are not acknowledged yet.

    If the process dies before :meth:`flush`, they are processed again.

    :param name: the queue's name, for the log.
    :param most: how many messages to acknowledge at once.
    """

    def __init__(self, name: str, receiver: Receiver, most: int) -> None:
        self._name = name
        self._receiver = receiver
        self._most = most
        self._lock = threading.Lock()
        self._messages: list[DurableMessage] = []
        self._under_way: list[DurableMessage] = []  # a thread is acknowledging these

    def add(self, message: DurableMessage) -> None:
        """Acknowledge a message soon, and all at once if there are enough.

        :raises redis.RedisError: the server failed. The messages are kept for another attempt.
        """
        with self._lock:
            self._messages.append(message)
            is_full = len(self._messages) >= self._most
        if is_full:
            self.flush()

    def entries(self) -> frozenset[bytes]:
        """Return the entries of the messages, which must not be received again."""
        with self._lock:
            messages = (*self._messages, *self._under_way)
        return frozenset(message.entry_id for message in messages)

    def flush(self) -> None:
        """Acknowledge all messages.

        :raises redis.RedisError: the server failed. The messages are kept for another attempt.
        """
        with self._lock:
            messages, self._messages = self._messages, []
            self._under_way += messages
        if not messages:
            return
        try:
            self._receiver.leases.acknowledge(messages)
        except LeaseLostError as error:
            logger.warning("%s: processed, but not acknowledged: %s", self._name, error)
        except BaseException:
            with self._lock:
                self._messages += [each for each in messages if not each.is_settled]
            raise
        finally:
            with self._lock:
                done = {message.entry_id for message in messages}
                self._under_way = [each for each in self._under_way if each.entry_id not in done]
