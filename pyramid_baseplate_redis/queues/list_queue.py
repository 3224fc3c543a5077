"""MessageQueue: a message queue on a Redis list."""

from __future__ import annotations

import inspect
import logging
import math
import time
from typing import Any

import redis
from opentelemetry.trace import INVALID_SPAN, Span
from redis.client import NEVER_DECODE
from redis.cluster import RedisCluster

from ..exceptions import REDIRECTION_ERRORS, TimedOutError
from ..retries import is_passing
from ..telemetry.call_details import pop_call_details
from ..telemetry.hot_keys import HotKeyTracker
from ..telemetry.operations import ClientTelemetry
from .outage import Outage
from .raw_commands import _ask, client_of, telemetry_of

logger = logging.getLogger(__package__)

# Seconds of one BLPOP. A hung server is noticed after this time and socket_timeout.
POLL_SECONDS = 10
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
        self._in_cluster = isinstance(client, RedisCluster)
        self._was_lost = True  # redis-py has to find the node that has the queue
        pool = getattr(client, "connection_pool", None)  # redis-py's RedisCluster has none
        self._hot_keys: HotKeyTracker | None = getattr(pool, "hot_keys", None)
        self._is_monitored = isinstance(getattr(client, "client_telemetry", None), ClientTelemetry)
        self._telemetry = telemetry_of(client)

    @property
    def _server_span(self) -> Span:
        span: Span = getattr(self.client, "server_span", INVALID_SPAN)
        return span

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
        started = time.time_ns()
        pop_call_details()
        if timeout == 0:
            message = self._once("LPOP", started)
        else:
            message = self._wait(None if timeout is None else math.ceil(timeout), started)
        if message is None:
            raise TimedOutError
        return message

    def put(self, message: bytes | str, timeout: float | None = None) -> None:
        """Add a message to the queue.

        :param message: bytes, or text, which is received as UTF-8 bytes.
        :param timeout: unused, because the queue is never full; baseplate's interface has it.
        :raises redis.RedisError: the server failed.
        """
        self._traced("RPUSH", message)

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
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        execute = _execute_in_cluster if self._in_cluster else _execute_command
        return self._telemetry.run(self._server_span, args, lambda: execute(self.client, *args))

    def _once(self, command: str, started: int) -> bytes | None:
        try:
            message: bytes | None = self._pop(command, self.queue)
        except Exception as error:
            self._tell_failure(command, started, error)
            raise
        if message is not None:
            self._tell(command, started, message)
        return message

    def _wait(self, seconds: int | None, started: int) -> bytes | None:
        deadline = None if seconds is None else time.monotonic() + seconds
        outage = Outage(logger, f"queue {self.queue}", may_pass=_may_pass)
        while True:
            poll: float = POLL_SECONDS
            if deadline is not None:
                # BLPOP takes 0 as forever, and servers round times below a millisecond to 0.
                poll = max(0.001, min(poll, deadline - time.monotonic()))
            try:
                reply = self._pop("BLPOP", self.queue, poll, longer=poll)
            except Exception as error:  # not BaseException: a stopped worker makes no span
                if _unblocked(error):
                    reply = None
                elif deadline is None and outage.wait(error):
                    continue
                else:
                    self._tell_failure("BLPOP", started, error)
                    raise
            outage.end()
            if reply is not None:
                message: bytes = reply[1]
                self._tell("BLPOP", started, message)
                return message
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def _pop(self, *args: Any, longer: float = 0.0) -> Any:
        """Send a command on a connection of its own and return its reply as bytes.

        :param longer: seconds that the reply may take beyond ``socket_timeout``. redis-py's
            ``blpop()`` gives up after ``socket_timeout``, and loses a message that arrives then.
        """
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        if self._in_cluster:
            return self._pop_in_cluster(args, longer)
        own = self.client.connection  # set if the client keeps one connection for itself
        if own is not None:
            with getattr(self.client, "connection_lock", self.client.single_connection_lock):
                return _ask(own, args, longer)
        connection = self.client.connection_pool.get_connection()
        try:
            return _ask(connection, args, longer)
        finally:
            self.client.connection_pool.release(connection)

    def _pop_in_cluster(self, args: tuple[Any, ...], longer: float) -> Any:
        """Send a command to the node that has the queue.

        BLPOP is sent here, because redis-py's gives up after ``socket_timeout``. The first time and
        after a failure, redis-py sends LPOP instead, which finds the node that has the queue now.
        """
        if longer and not self._was_lost:
            self._was_lost = True  # until the reply has arrived
            node = self.client.get_node_from_key(self.queue)
            pool = self.client.get_redis_connection(node).connection_pool
            connection = pool.get_connection()
            try:
                reply = _ask(connection, args, longer)
                self._was_lost = False
                return reply
            except REDIRECTION_ERRORS:
                pass
            finally:
                pool.release(connection)
        options: dict[str, Any] = {NEVER_DECODE: []}
        execute = getattr(self.client, "execute_unmonitored", None)
        if execute is None:
            message = _execute_in_cluster(self.client, "LPOP", self.queue, **options)
        else:
            message = execute("LPOP", self.queue, **options)
        self._was_lost = False
        return (self.queue, message) if longer and message is not None else message

    def _tell(self, command: str, started: int, message: bytes) -> None:
        args = (command, self.queue, 0)
        operation = self._telemetry.start_command(self._server_span, args, started)
        if operation is not None:
            operation.end(message)

    def _tell_failure(self, command: str, started: int, error: BaseException) -> None:
        args = (command, self.queue, 0)
        operation = self._telemetry.start_command(self._server_span, args, started)
        if operation is not None:
            operation.fail(error)


def _unblocked(error: BaseException) -> bool:
    """Return whether an administrator or a failover ended the wait. No message was taken."""
    return isinstance(error, redis.ResponseError) and str(error).startswith("UNBLOCKED")


def _may_pass(error: BaseException) -> bool:
    # get() raises the errors in a reply: the server works, but refuses the command.
    return is_passing(error) and not isinstance(error, redis.ResponseError)
