"""The monitored client: a redis.Redis that starts a span for each command.

Two things keep it cheap: a request's client is a copy of a prototype (:meth:`bound_to`), and a
command on a plain pool skips the parts of redis-py's ``execute_command`` that do nothing there.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import redis
from opentelemetry.trace import Span
from redis.client import EMPTY_RESPONSE, NEVER_DECODE

from ..command_table import only_reads
from ..deadlines import DeadlinePolicy
from ..pool.blocking_pool import BlockingConnectionPool
from ..pool.connection_kwargs import check_caching, check_pool_caching
from ..pool.direct.packing import DIRECT_COMMANDS
from ..retries import RetryPolicy
from ..telemetry.command_spans import checked_span
from ..telemetry.hot_keys.tracker import HotKeyTracker
from ..telemetry.operations import ClientTelemetry
from .base import MonitoredClient
from .lua_scripts import fail_command
from .monitor import MonitoredMonitor
from .open_resources import OpenResources
from .pipeline import MonitoredRedisPipeline, monitored_module_pipeline
from .pipeline_base import copied_callbacks
from .pubsub import MonitoredPubSub

if TYPE_CHECKING:
    from redis.commands.json import JSON
    from redis.commands.search import Search
    from redis.commands.timeseries import TimeSeries

# OpenTelemetry's instrumentation of redis-py wraps this method. Calling the wrapped one would give
# every command a second span.
_execute_command = inspect.unwrap(redis.Redis.execute_command)
_parse_response = redis.Redis.parse_response

# The attributes that bind a client to its request.
_OF_THE_REQUEST = ("context_name", "server_span", "redis_client_name", "_telemetry", "_held",
                   "deadlines", "transaction_manager")  # fmt: skip


class MonitoredRedisConnection(MonitoredClient[MonitoredRedisPipeline], redis.Redis):
    """A Redis client whose commands show up as spans of a request.

    It behaves exactly like :class:`redis.Redis`: results and exceptions are the objects that
    redis-py returns and raises. Like that class, it can be shared between threads.

    :param context_name: the client's name; spans are named ``<context_name>.<COMMAND>``.
    :param server_span: the parent of a command's span when no span is current; ``None`` for no
        parent.
    :param connection_pool: where connections come from. The client never closes it.
    :param redis_client_name: ``db.client.connection.pool.name`` on the spans; by default
        ``context_name``.
    :param kwargs: see :class:`redis.Redis`. redis-py passes them when it makes clients of this
        class itself (``from_url``, ``Sentinel.master_for``).
    :raises TypeError: ``server_span`` is not a span, or there is no pool and ``context_name`` is
        not an identifier: the arguments are redis-py's positional ``host`` and ``port``.
    :raises ConfigurationError: redis-py's client-side caching is turned on.

    The names are those of ``baseplate.clients.redis``. The constructor takes as long as a command.
    Requests get their client from :class:`~.factories.RedisContextFactory`, which is much faster.
    """

    _unshared: ClassVar[Mapping[str, Any]] = {
        "_held": None,
        "connection": None,
        "auto_close_connection_pool": False,
    }

    def __init__(
        self,
        context_name: str = "redis",
        server_span: Span | None = None,
        connection_pool: redis.ConnectionPool | None = None,
        redis_client_name: str = "",
        **kwargs: Any,
    ) -> None:
        if connection_pool is None:
            if not context_name.isidentifier():
                # Without the value: it may be a URL with a password.
                raise TypeError(
                    "context_name: is not the name of a client; pass the arguments of redis.Redis "
                    "by name, such as host= and port="
                )
            check_caching(context_name, kwargs)
        else:
            check_pool_caching(context_name, connection_pool)
        self.context_name = context_name
        self.server_span = checked_span(server_span)
        self.redis_client_name = redis_client_name
        super().__init__(connection_pool=connection_pool, **kwargs)
        self._telemetry = ClientTelemetry.for_pool(
            self.connection_pool, context_name, redis_client_name
        )
        self._own_callbacks = True
        settings = getattr(self.connection_pool, "client_settings", None)
        self._retry = RetryPolicy.of(settings)
        self.deadlines = DeadlinePolicy.of(settings, context_name)
        tracker: HotKeyTracker | None = getattr(self.connection_pool, "hot_keys", None)
        self._hot_keys = tracker
        # Used when the client keeps one connection. redis-py acquires its own lock by a call of
        # acquire(): a signal handler that raises right after it would leave it locked forever.
        self.connection_lock = threading.RLock()
        self._held: OpenResources | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command in a span and return its parsed response.

        :raises redis.RedisError: see :meth:`redis.Redis.execute_command`.
        """
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        if self.deadlines is None and self.connection is None and self._retry is None:
            execute = self._attempted
        else:
            execute = self._executed
        operation = self._telemetry.start_command(self.server_span, args)
        if operation is None:
            return execute(args, options)
        try:
            result = execute(args, options)
        except BaseException as error:
            fail_command(operation, error)
            raise
        operation.end(result)
        return result

    def _executed(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.deadlines is None:
            return self._sent(args, options)
        return self.deadlines.run(lambda: self._sent(args, options))

    def _sent(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.connection is not None:
            return self._executed_on_own_connection(args, options)
        if self._retry is None:
            return self._attempted(args, options)
        return self._retry.call(lambda: self._attempted(args, options), reads=only_reads(args[0]))

    def _attempted(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        pool = self.connection_pool
        if not isinstance(pool, BlockingConnectionPool) or not pool.is_plain:
            return _execute_command(self, *args, **options)
        # The same as redis-py's execute_command with its metrics and retries off, but faster.
        connection = pool.get_connection()
        try:
            if (
                args[0] in DIRECT_COMMANDS
                and getattr(connection, "is_direct", False)
                and not (NEVER_DECODE in options or EMPTY_RESPONSE in options)
                and type(self).parse_response is _parse_response
                and "parse_response" not in self.__dict__
            ):
                response = connection.ask(args)
                callback = dict.get(self.response_callbacks, args[0])
                if callback is None:
                    return response
                options.pop("keys", None)  # for redis-py's cache
                return callback(response, **options)
            return self._send_command_parse_response(connection, args[0], *args, **options)
        except (redis.ConnectionError, redis.TimeoutError):
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _executed_on_own_connection(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with self.connection_lock:
            connection: Any = self.connection
            if getattr(connection, "owes_replies", False):
                # The previous command was interrupted. Its reply would be taken for this one's.
                connection.disconnect()
            if isinstance(self.connection_pool, BlockingConnectionPool):
                self.connection_pool.leave_replica(connection)
            if self._retry is None:
                return _execute_command(self, *args, **options)
            return self._retry.call(
                lambda: _execute_command(self, *args, **options), reads=only_reads(args[0])
            )

    def set_response_callback(self, command: str, callback: Callable[..., Any]) -> None:
        """Set a response callback for this client alone."""
        if not self._own_callbacks:
            # redis-py's modules (json(), ts(), ...) call this as well.
            self.response_callbacks = copied_callbacks(self.response_callbacks)
            self._own_callbacks = True
        super().set_response_callback(command, callback)

    def pipeline(  # type: ignore[override]  # the name comes first, as in baseplate
        self,
        name: str | bool | None = None,
        transaction: Any = True,
        shard_hint: str | None = None,
    ) -> MonitoredRedisPipeline:
        """Create a pipeline: commands are queued until ``execute()``, which is one span.

        :param name: completes the span's name, ``<context_name>.pipeline_<name>``. A bool is taken
            for ``transaction``, which comes first in redis-py.
        :param transaction: whether the commands are executed atomically (MULTI ... EXEC).
        :param shard_hint: see :meth:`redis.Redis.pipeline`.
        """
        trace_name, transaction, shard_hint = self._pipeline_arguments(
            name, transaction, shard_hint, default=True
        )
        made = MonitoredRedisPipeline(
            trace_name,
            self.server_span,
            self.connection_pool,
            self.response_callbacks,
            redis_client_name=self.redis_client_name,
            transaction=transaction,
            shard_hint=shard_hint,
            telemetry=self._telemetry,
            retry=self._retry,
            deadlines=self.deadlines,
            hot_keys=self._hot_keys,
        )
        return self._hold(made)

    def pubsub(self, **kwargs: Any) -> MonitoredPubSub:
        """Create a subscriber. Its commands have spans; waiting for messages has none.

        It holds a connection of the pool until it is closed. ``socket_timeout`` does not limit how
        long it waits for a message.

        :param kwargs: see :meth:`redis.Redis.pubsub`.
        """
        made = MonitoredPubSub(
            self.connection_pool,
            telemetry=self._telemetry,
            server_span=self.server_span,
            event_dispatcher=self._event_dispatcher,
            **kwargs,
        )
        return self._hold(made)

    def monitor(self) -> MonitoredMonitor:
        """Watch all commands that the server receives; see :meth:`redis.Redis.monitor`.

        As in redis-py, waiting for a command raises :class:`redis.TimeoutError` if the server
        receives none within ``socket_timeout``.
        """
        return self._hold(MonitoredMonitor(self))

    def client(self) -> MonitoredRedisConnection:
        """Create a client that keeps one connection for itself until it is closed.

        It belongs to the same request: it shares this client's parent span, observers and
        transaction manager, and the end of the request closes it if it is still open.
        """

        def make() -> MonitoredRedisConnection:
            # As redis-py does: the constructor of a subclass accepts these keyword arguments.
            return type(self)(connection_pool=self.connection_pool, single_connection_client=True)

        made = make() if self.deadlines is None else self.deadlines.run(make)  # it connects
        self._hold(made)
        for attribute in _OF_THE_REQUEST:
            if attribute in self.__dict__:
                made.__dict__[attribute] = self.__dict__[attribute]
        return made

    def _shared_within(self) -> dict[str, Any]:
        return {**super()._shared_within(), "connection": self.connection}

    def __del__(self) -> None:
        if self.__dict__.get("_is_borrowed"):
            return
        connection: Any = self.__dict__.get("connection")
        if connection is not None:
            # In a cycle, its socket may be finalized after this: see MonitoredPipelineMixin.
            with contextlib.suppress(Exception):
                connection.disconnect()
        super().__del__()

    def close(self) -> None:
        """Return the connection to the pool if this client keeps one; see :meth:`client`."""
        if self._is_borrowed:
            return
        connection: Any = self.connection
        if connection is not None and connection.pid != os.getpid():
            self.connection = None
            connection.disconnect()  # this process's copy; the parent returns the original
        super().close()

    def json(self, *args: Any, **kwargs: Any) -> JSON:
        """Return the commands of RedisJSON; they and their pipelines are monitored."""
        return cast("JSON", self._module(super().json(*args, **kwargs)))

    def ft(self, *args: Any, **kwargs: Any) -> Search:
        """Return the commands of RediSearch; they and their pipelines are monitored."""
        return cast("Search", self._module(super().ft(*args, **kwargs)))

    def ts(self) -> TimeSeries:
        """Return the commands of RedisTimeSeries; they and their pipelines are monitored."""
        return cast("TimeSeries", self._module(super().ts()))

    def _module(self, module: Any) -> Any:
        make = module.pipeline  # makes a pipeline of the module's own class

        def pipeline(*args: Any, **kwargs: Any) -> Any:
            model = self.pipeline(*args, **kwargs)
            made = make(transaction=model.transaction, shard_hint=model.shard_hint)
            return self._hold(monitored_module_pipeline(made, model))

        module.pipeline = pipeline
        return module
