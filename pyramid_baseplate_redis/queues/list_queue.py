"""MessageQueue: a message queue on a Redis list."""

from __future__ import annotations

import inspect
import logging
import math
import time
from typing import Any

import redis
from redis.cluster import RedisCluster

from ..exceptions import TimedOutError
from ..retries import is_passing
from ..telemetry.call_details import pop_call_details
from ..telemetry.messaging.metrics import MessageMetrics
from ..telemetry.operations import ClientTelemetry, Operation
from .messages import encoded
from .outage import Outage
from .raw_commands import RawClient, RawCommands, client_of, is_unblocked

logger = logging.getLogger(__package__)

# Seconds of one BLPOP. A hung server is noticed after this time and socket_timeout.
POLL_SECONDS = 10
_SENT_BY_REDIS_PY = (bytes, str, int, float)
_execute_command = inspect.unwrap(redis.Redis.execute_command)
_execute_in_cluster = inspect.unwrap(RedisCluster.execute_command)


class MessageQueue:
    """A message queue on a Redis list. Each message is delivered at most once.

    If a worker dies after it took a message and before it handled it, the message is lost.

    ``put`` makes one span, and so does a ``get`` that returns a message or fails. Waiting makes
    none. The methods are those of ``baseplate.clients.redis.MessageQueue``.

    :param name: the key of the list.
    :param client: a connection pool or a client, also of a Cluster. On a pool or a plain client,
        spans are made only while another span is current.
    :raises TypeError: ``client`` is neither a pool nor a client.
    """

    def __init__(
        self,
        name: str,
        client: redis.ConnectionPool | redis.Redis | RedisCluster,
    ) -> None:
        self.queue = name
        self.client = client = client_of(client)
        self._raw = RawClient(client, name)
        self._metrics = MessageMetrics(self._raw.telemetry, name)
        self._is_monitored = isinstance(getattr(client, "client_telemetry", None), ClientTelemetry)

    def get(self, timeout: float | None = None) -> bytes:
        """Take a message from the queue.

        :param timeout: seconds to wait for a message, rounded up to a whole number; may be longer
            than ``socket_timeout``. 0 does not wait. ``None`` waits forever, even while the server
            is unreachable.
        :raises TimedOutError: no message arrived within ``timeout``.
        :raises ValueError: ``timeout`` is negative or infinite.
        :raises redis.RedisError: the server failed. With ``timeout=None`` only a wrong password, a
            pool without a free connection and errors in the server's reply are raised.
        """
        if timeout is not None and not 0 <= timeout < math.inf:
            raise ValueError(
                f"timeout: {timeout!r} is out of range. Write 0 seconds or more, or None."
            )
        command = "BLPOP" if timeout != 0 else "LPOP"
        started, began = time.time_ns(), time.perf_counter()
        pop_call_details()
        try:
            message = self._pop() if timeout == 0 else self._wait(timeout)
        except Exception as error:  # not BaseException: a stopped worker makes no span
            operation = self._operation(command, started)
            if operation is not None:
                operation.fail(error)
            self._metrics.received(began, 0, error)
            raise
        if message is None:
            raise TimedOutError
        operation = self._operation(command, started)
        if operation is not None:
            operation.end(message)
        self._metrics.received(began, 1)
        return message

    def put(
        self, message: bytes | str, timeout: float | None = None, *, after_commit: bool = False
    ) -> None:
        """Add a message to the queue.

        :param message: bytes, or text, which is received as UTF-8 bytes.
        :param timeout: unused, because the queue is never full; baseplate's interface has it.
        :param after_commit: must be ``False``; only a durable queue has this option.
        :raises TypeError: the message is neither bytes nor text, or ``after_commit`` is set.
        :raises redis.RedisError: the server failed.
        """
        if after_commit:
            raise TypeError(
                f"queue {self.queue}: after_commit needs a durable queue. Make the queue durable, "
                "or put the message after the transaction."
            )
        if isinstance(message, bool) or not isinstance(message, _SENT_BY_REDIS_PY):
            message = encoded(self.queue, message)
        started = time.perf_counter()
        try:
            self._traced("RPUSH", message)
        except BaseException as error:
            self._metrics.sent(started, 1, error)
            raise
        self._metrics.sent(started, 1)

    def unlink(self) -> None:
        """Remove the queue and its messages; the server frees their memory in the background.

        A later ``put`` creates it again. Baseplate's ``unlink`` does nothing.

        :raises redis.RedisError: the server failed.
        """
        self._traced("UNLINK")

    def close(self) -> None:
        """Remove the queue and its messages from the server, as baseplate does.

        A later ``put`` creates it again.

        :raises redis.RedisError: the server failed.
        """
        self._traced("DEL")

    def _traced(self, command: str, *arguments: Any) -> Any:
        args = (command, self.queue, *arguments)
        if self._is_monitored:
            return self.client.execute_command(*args)
        raw = self._raw
        raw.sample(args)
        execute = _execute_in_cluster if raw.in_cluster else _execute_command
        return raw.telemetry.run(raw.server_span, args, lambda: execute(self.client, *args))

    def _operation(self, command: str, started: int) -> Operation | None:
        args = (command, self.queue, 0)
        return self._raw.telemetry.start_command(self._raw.server_span, args, started)

    def _pop(self) -> bytes | None:
        args = ("LPOP", self.queue)
        self._raw.sample(args)
        (message,) = self._raw.run(lambda ask: ask(args))
        popped: bytes | None = message
        return popped

    def _wait(self, timeout: float | None) -> bytes | None:
        deadline = math.inf if timeout is None else time.monotonic() + math.ceil(timeout)
        outage = Outage(logger, f"queue {self.queue}", may_pass=_may_pass)
        while True:
            try:
                message = self._blocking_pop(deadline)
            except Exception as error:
                if timeout is not None or not outage.wait(error):
                    raise
                continue
            outage.end()
            if message is not None or time.monotonic() >= deadline:
                return message

    def _blocking_pop(self, deadline: float) -> bytes | None:
        self._raw.sample(("BLPOP", self.queue, 0))

        def pop(ask: RawCommands) -> bytes | None:
            # Computed here, because a node of a Cluster may have waited before it redirected.
            # BLPOP takes 0 as forever, and servers round times below a millisecond to 0.
            seconds = max(0.001, min(POLL_SECONDS, deadline - time.monotonic()))
            (reply,) = ask(("BLPOP", self.queue, seconds), block=seconds)
            return None if reply is None else reply[1]

        try:
            return self._raw.run(pop, blocks=True)
        except redis.ResponseError as error:
            if not is_unblocked(error):
                raise
            return None


def _may_pass(error: BaseException) -> bool:
    # get() raises the errors in a reply: the server works, but refuses the command.
    return is_passing(error) and not isinstance(error, redis.ResponseError)
