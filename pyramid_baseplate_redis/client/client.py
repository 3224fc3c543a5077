"""The monitored connection: redis.Redis in everything, with a span for each command."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import redis
from opentelemetry.trace import Span

from ..command_table import only_reads
from ..pool.blocking_pool import BlockingConnectionPool
from ..retries import RetryPolicy
from ..telemetry.command_spans import checked_span
from ..telemetry.hot_keys import HotKeyTracker
from ..telemetry.operations import ClientTelemetry
from .base import MonitoredClient
from .lua_scripts import loads_script
from .monitor import MonitoredMonitor
from .open_resources import OpenResources
from .pipeline import MonitoredRedisPipeline, copied_callbacks, monitored_module_pipeline
from .pubsub import MonitoredPubSub

if TYPE_CHECKING:
    from redis.commands.json import JSON
    from redis.commands.search import Search
    from redis.commands.timeseries import TimeSeries

# Not super().execute_command: where OpenTelemetry's instrumentation of redis-py is active that is
# wrapped, and every command would have two spans.
_execute_command = inspect.unwrap(redis.Redis.execute_command)


# What ties a client to its request: its spans, what observes it, what it gives back at the end.
_OF_THE_REQUEST = ("context_name", "server_span", "redis_client_name", "_telemetry", "_held",
                   "transaction_manager")  # fmt: skip


class MonitoredRedisConnection(MonitoredClient, redis.Redis):
    """A Redis client whose commands show up as spans of a request.

    It acts as :class:`redis.Redis` in everything: results and exceptions are redis-py's, the very
    same objects. Safe to share between threads, as that class is.

    :param context_name: the client's name; spans are named ``<context_name>.<COMMAND>``.
    :param server_span: the span that a command belongs to when no span is current; ``None`` for
        none.
    :param connection_pool: where connections come from. It is shared and never closed from here.
    :param redis_client_name: ``db.client.connection.pool.name`` on the spans; by default the
        context's name.
    :param kwargs: as for :class:`redis.Redis`, which makes clients of this class too
        (``client()``, ``from_url``, ``Sentinel.master_for``).
    :raises TypeError: ``server_span`` isn't a span, as when redis-py's positional ``host`` and
        ``port`` are given.

    The names are those of ``baseplate.clients.redis``. Constructing one costs as much as a
    command; a request's is bound by :class:`~.factories.RedisContextFactory`, which costs little.
    """

    def __init__(
        self,
        context_name: str = "redis",
        server_span: Span | None = None,
        connection_pool: redis.ConnectionPool | None = None,
        redis_client_name: str = "",
        **kwargs: Any,
    ) -> None:
        self.context_name = context_name
        self.server_span = checked_span(server_span)
        self.redis_client_name = redis_client_name
        super().__init__(connection_pool=connection_pool, **kwargs)
        self._telemetry = ClientTelemetry.for_pool(
            self.connection_pool, context_name, redis_client_name
        )
        self._own_callbacks = True
        self._retry = RetryPolicy.of(getattr(self.connection_pool, "client_settings", None))
        tracker: HotKeyTracker | None = getattr(self.connection_pool, "hot_keys", None)
        self._hot_keys = tracker
        # Of a client that keeps one connection. redis-py's own lock would stay locked if a signal
        # came right behind its acquire(); behind a ``with`` it doesn't.
        self.connection_lock = threading.RLock()
        self._held: OpenResources | None = None

    def bound_to(self, server_span: Span) -> MonitoredRedisConnection:
        """A client on the same pool whose commands belong to ``server_span``.

        redis-py's constructor rebuilds a table of some 170 response callbacks; this shares it,
        until one of the clients sets a callback of its own with ``set_response_callback``.
        """
        twin = object.__new__(type(self))
        self._own_callbacks = False
        attributes = twin.__dict__
        attributes.update(self.__dict__)
        attributes["server_span"] = server_span
        # What this client owns stays its own: the twin's end would give it back, or close it.
        attributes["connection"] = None
        attributes["auto_close_connection_pool"] = False
        attributes["_held"] = None
        return twin

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command and return its parsed response, in a span.

        :raises redis.RedisError: as :meth:`redis.Redis.execute_command`.
        """
        if self._hot_keys is not None:
            self._hot_keys.sample(args)
        operation = self._telemetry.start_command(self.server_span, args)
        if operation is None:
            return self._executed(args, options)
        try:
            result = self._executed(args, options)
        except BaseException as error:
            if isinstance(error, redis.exceptions.NoScriptError) and loads_script():
                operation.end_noscript()
            else:
                operation.fail(error)
            raise
        operation.end(result)
        return result

    def _executed(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.connection is not None:
            return self._executed_on_own_connection(args, options)
        if self._retry is not None:
            return self._retried(args, options)
        pool = self.connection_pool
        if not isinstance(pool, BlockingConnectionPool) or not pool.is_plain:
            return _execute_command(self, *args, **options)
        # What redis-py does where its own metrics and retries are off, and without their cost.
        connection = pool.get_connection()
        try:
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
                # Something interrupted the command before, and its reply would be taken for ours.
                connection.disconnect()
            if self._retry is None:
                return _execute_command(self, *args, **options)
            return self._retried(args, options)

    def _retried(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        assert self._retry is not None
        return self._retry.call(
            lambda: _execute_command(self, *args, **options), reads=only_reads(args[0])
        )

    def set_response_callback(self, command: str, callback: Callable[..., Any]) -> None:
        """Set a response callback for this client alone."""
        if not self._own_callbacks:
            # Modules (json(), ts(), ...) set theirs too.
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

        :param name: names the span, ``<context_name>.pipeline_<name>``.
        :param transaction: whether the commands are executed atomically (MULTI ... EXEC).
        :param shard_hint: as in redis-py.

        A bool in first place is redis-py's own positional ``transaction``.
        """
        if isinstance(name, bool):
            name, transaction, shard_hint = None, name, _not_bool(transaction) or shard_hint
        made = MonitoredRedisPipeline(
            self._pipeline_name(name),
            self.server_span,
            self.connection_pool,
            self.response_callbacks,
            redis_client_name=self.redis_client_name,
            transaction=transaction,
            shard_hint=shard_hint,
            telemetry=self._telemetry,
            retry=self._retry,
            hot_keys=self._hot_keys,
        )
        return self._hold(made)

    def transaction(
        self,
        func: Callable[[MonitoredRedisPipeline], Any],
        *watches: Any,
        name: str | None = None,
        shard_hint: str | None = None,
        value_from_callable: bool = False,
        watch_delay: float | None = None,
    ) -> Any:
        """Run ``func`` with a pipeline until none of the watched keys changed meanwhile.

        :param func: queues commands on the pipeline that it is given, behind ``multi()`` when it
            reads the watched keys first.
        :param watches: keys to watch.
        :param name: names the pipeline's span.
        :param value_from_callable: return what ``func`` returns, not the commands' results.
        :param watch_delay: seconds to wait before each further attempt.
        :raises redis.ConnectionError: if the reply to the transaction was lost, so that nobody
            knows whether it was executed. redis-py executes it again.
        """

        def named(pipeline: redis.client.Pipeline) -> Any:
            monitored = cast(MonitoredRedisPipeline, pipeline)
            monitored.trace_name = self._pipeline_name(name)
            monitored.is_repeated = True
            return func(monitored)

        return super().transaction(
            named,
            *watches,
            shard_hint=shard_hint,
            value_from_callable=value_from_callable,
            watch_delay=watch_delay,
        )

    def pubsub(self, **kwargs: Any) -> MonitoredPubSub:
        """A subscriber: SUBSCRIBE and the like have spans, waiting for messages has none.

        It keeps a connection of the pool until it is closed. ``socket_timeout`` doesn't end its
        waiting.
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
        """Watch all commands that the server gets; see :meth:`redis.Redis.monitor`.

        As in redis-py, a server that gets no command for ``socket_timeout`` ends it with
        :class:`redis.TimeoutError`.
        """
        return self._hold(MonitoredMonitor(self))

    def client(self) -> MonitoredRedisConnection:
        """Make a client that keeps one connection for itself until it is closed.

        It belongs to the same request: its spans, its observers and its transaction manager are
        this client's, and what it leaves open is given back at the end of the request.
        """
        # The same keyword arguments as in redis-py, which a subclass's constructor has to take.
        made = type(self)(connection_pool=self.connection_pool, single_connection_client=True)
        self._hold(made)
        for attribute in _OF_THE_REQUEST:
            if attribute in self.__dict__:
                made.__dict__[attribute] = self.__dict__[attribute]
        return made

    def close(self) -> None:
        """Give back the connection that :meth:`client` keeps."""
        connection: Any = self.connection
        if connection is not None and connection.pid != os.getpid():
            self.connection = None
            connection.disconnect()  # this process's copy; it is the parent's to give back
        super().close()

    def json(self, *args: Any, **kwargs: Any) -> JSON:
        """The commands of RedisJSON, and their pipelines, monitored."""
        return cast("JSON", self._module(super().json(*args, **kwargs)))

    def ft(self, *args: Any, **kwargs: Any) -> Search:
        """The commands of RediSearch, and their pipelines, monitored."""
        return cast("Search", self._module(super().ft(*args, **kwargs)))

    def ts(self) -> TimeSeries:
        """The commands of RedisTimeSeries, and their pipelines, monitored."""
        return cast("TimeSeries", self._module(super().ts()))

    def _module(self, module: Any) -> Any:
        make = module.pipeline  # builds a class of its own, from redis-py's plain Pipeline

        def pipeline(
            name: str | bool | None = None, transaction: Any = True, shard_hint: Any = None
        ) -> Any:
            if isinstance(name, bool):
                name, transaction, shard_hint = None, name, _not_bool(transaction) or shard_hint
            made = make(transaction=transaction, shard_hint=shard_hint)
            return self._hold(
                monitored_module_pipeline(
                    made,
                    self._pipeline_name(name),
                    self.server_span,
                    self._telemetry,
                    self._retry,
                    self._hot_keys,
                )
            )

        module.pipeline = pipeline
        return module


def _not_bool(value: Any) -> Any:
    return None if isinstance(value, bool) else value
