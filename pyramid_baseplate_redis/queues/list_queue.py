"""MessageQueue: a queue of messages in a Redis list."""

from __future__ import annotations

import inspect
import logging
import math
import time
from typing import Any

import redis
from opentelemetry.trace import INVALID_SPAN, Span
from redis.backoff import ExponentialWithJitterBackoff
from redis.client import NEVER_DECODE
from redis.cluster import RedisCluster

from ..exceptions import REDIRECTION_ERRORS, TimedOutError
from ..telemetry.call_details import pop_call_details
from ..telemetry.hot_keys import HotKeyTracker
from ..telemetry.operations import ClientTelemetry
from .raw_commands import _ask, client_of, telemetry_of

logger = logging.getLogger(__package__)

# One poll: the longest that a frozen server goes unnoticed, beside socket_timeout.
POLL_SECONDS = 10
_execute_command = inspect.unwrap(redis.Redis.execute_command)
_execute_in_cluster = inspect.unwrap(RedisCluster.execute_command)


class MessageQueue:
    """A queue of messages in a Redis list, delivered at most once.

    A worker that dies between taking a message and handling it loses that message.

    :param name: the key of the list.
    :param client: a connection pool or a client, of a Cluster too. A monitored client's spans are
        used, a pool or a plain client is monitored too while a span is current.

    ``put`` and a ``get`` that returns a message are one span each; waiting makes none. The names
    are those of ``baseplate.clients.redis.MessageQueue``.
    """

    def __init__(
        self,
        name: str,
        client: redis.ConnectionPool | redis.Redis | RedisCluster,
    ) -> None:
        self.queue = name
        self.client = client = client_of(client)
        self._in_cluster = isinstance(client, RedisCluster)
        self._was_lost = True  # whether redis-py has to find out which node has it
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

        :param timeout: seconds to wait for one; a float is rounded up to a whole number. 0 doesn't
            wait, ``None`` waits for ever: it goes on after the server was away and came back.
            Longer than ``socket_timeout`` is fine.
        :raises TimedOutError: if there was none in that time.
        :raises redis.RedisError: if the server fails, unless ``timeout`` is ``None``; a wrong
            password, a pool without a free connection and errors in a server's reply are raised
            then too.
        """
        if timeout is not None and not 0 <= timeout < math.inf:
            raise ValueError(f"timeout: {timeout!r} is not a number of seconds from 0 on")
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

        :param message: bytes, or text, which comes out as UTF-8 bytes.
        :param timeout: unused, since the queue is never full; it is in baseplate's interface.
        :raises redis.RedisError: if the server fails.
        """
        self._traced("RPUSH", message)

    def unlink(self) -> None:
        """Remove the queue and its messages from the server, which frees them in the background.

        A later ``put`` makes it anew. (Baseplate does nothing here.)
        """
        self._traced("UNLINK")

    def close(self) -> None:
        """Remove the queue and its messages from the server, as baseplate does.

        A later ``put`` makes it anew.
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
        backoff = ExponentialWithJitterBackoff(base=0.1, cap=2)
        failures = 0
        while True:
            poll: float = POLL_SECONDS
            if deadline is not None:
                # Never 0, which is "for ever" to BLPOP; servers round below a millisecond.
                poll = max(0.001, min(poll, deadline - time.monotonic()))
            try:
                reply = self._pop("BLPOP", self.queue, poll, longer=poll)
            except Exception as error:  # whoever stops an idle worker makes no span
                if _unblocked(error):
                    reply = None
                elif deadline is None and _passing(error):
                    failures += 1
                    if failures == 1:
                        logger.warning("queue %s: %s; waiting for the server", self.queue, error)
                    time.sleep(backoff.compute(failures))
                    continue
                else:
                    self._tell_failure("BLPOP", started, error)
                    raise
            if failures:
                logger.warning("queue %s: the server is back", self.queue)
                failures = 0
            if reply is not None:
                message: bytes = reply[1]
                self._tell("BLPOP", started, message)
                return message
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def _pop(self, *args: Any, longer: float = 0.0) -> Any:
        """Send a command on a connection of its own and read its reply as bytes.

        :param longer: seconds that the reply may take beyond ``socket_timeout``. redis-py's own
            blpop() gives up after ``socket_timeout``, and the message it was sent is lost.
        """
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        if self._in_cluster:
            return self._pop_in_cluster(args, longer)
        own = self.client.connection  # of a client() that keeps one connection for itself
        if own is not None:
            with getattr(self.client, "connection_lock", self.client.single_connection_lock):
                return _ask(own, args, longer)
        connection = self.client.connection_pool.get_connection()
        try:
            return _ask(connection, args, longer)
        finally:
            self.client.connection_pool.release(connection)

    def _pop_in_cluster(self, args: tuple[Any, ...], longer: float) -> Any:
        """The same on the node that has the queue.

        redis-py gives up BLPOP there after ``socket_timeout``, too. LPOP it sends to the node,
        wherever that is by now, and learns where it is.
        """
        if longer and not self._was_lost:
            self._was_lost = True  # unless nothing happens to it
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
    """Whether an administrator or a failover ended the wait; nothing was taken from the queue."""
    return isinstance(error, redis.ResponseError) and str(error).startswith("UNBLOCKED")


def _passing(error: BaseException) -> bool:
    return isinstance(error, (redis.ConnectionError, redis.TimeoutError)) and not isinstance(
        error, (redis.AuthenticationError, redis.exceptions.MaxConnectionsError)
    )
