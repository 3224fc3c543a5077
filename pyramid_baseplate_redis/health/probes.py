"""Whether a client's server answers: asked over a connection of its own, in bounded time."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import redis
from opentelemetry import trace
from redis.exceptions import RedisClusterException
from redis.utils import str_if_bytes
from zope.interface import implementer

from ..client.base import MonitoredClient
from ..cluster.pool import ClusterConnectionPool
from ..interfaces import IRedisContextFactory, IRedisProbes
from ..pool.connection import PooledConnection, pooled_class

if TYPE_CHECKING:
    from zope.interface.interfaces import IComponents

_SECONDS = 1.0  # of a pool that wasn't built from settings
# Of the time: so a probe mostly ends by itself, and tells what has taken so long.
_SHARE_OF_A_WAIT = 0.9
_RETRIES = ("retry", "retry_on_timeout", "retry_on_error")  # redis-py's: a probe asks once
_UNREACHABLE = (redis.ConnectionError, redis.TimeoutError)


@dataclass(frozen=True)
class ClientHealth:
    """Whether the server of one client answers.

    :param name: the client's.
    :param ok: whether PING was answered, behind a login, within ``health_timeout``.
    :param required: the setting ``required``: whether the application can't do without it.
    :param latency: seconds from sending PING to its reply, connecting not included; of a Cluster
        those of its slowest primary. ``None`` if it failed, as all that follow but ``error``.
    :param server: what the server calls itself, ``redis`` or ``valkey``; ``None`` if it doesn't
        tell (before Redis 6).
    :param server_version: its version; likewise.
    :param role: ``master`` or ``replica``, in the server's words; likewise.
    :param error: why it failed; ``None`` if it didn't.
    """

    name: str
    ok: bool
    required: bool = True
    latency: float | None = None
    server: str | None = None
    server_version: str | None = None
    role: str | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class _Answer:
    latency: float
    server: str | None
    server_version: str | None
    role: str | None


@implementer(IRedisProbes)
class Probes:
    """The probes that are under way: one for each client and process, at most.

    A probe may last longer than anybody waits for it: the look-up of a host name, for one, takes
    as long as the operating system likes. Whoever asks meanwhile waits for the same probe.
    """

    def __init__(self) -> None:
        # A fork copies the dictionary, but no thread: a parent's probe never ends in the child.
        self._under_way: dict[tuple[int, str], Probe] = {}

    def start(self, name: str, factory: Any) -> Probe:
        """Begin to ask a client's server, or join whoever asks already.

        :param name: the client's.
        :param factory: the client's :class:`~.interfaces.IRedisContextFactory`.
        """
        key = (os.getpid(), name)
        probe = Probe(name, factory)
        started = self._under_way.setdefault(key, probe)
        if started is probe:
            probe.start(partial(self._under_way.pop, key, None))
        return started


class Probe:
    """Asks the server of one client, in a thread of its own; under gevent it is a greenlet."""

    def __init__(self, name: str, factory: Any) -> None:
        settings = getattr(factory.connection_pool, "client_settings", None)
        self.name = name
        self.required = True if settings is None else settings.required
        self.seconds = _SECONDS if settings is None else settings.health_timeout.total_seconds()
        self._factory = factory
        self._answer: _Answer | None = None
        self._error: Exception | None = None
        self._ended = threading.Event()

    def start(self, forget: Callable[[], object]) -> None:
        """Begin; ``forget`` is called at the end."""
        # The span of the request that asks goes along.
        run = partial(contextvars.copy_context().run, self._run, forget)
        try:
            threading.Thread(target=run, name=f"redis health {self.name}", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            self._error = error
            forget()
            self._ended.set()

    def _run(self, forget: Callable[[], object]) -> None:
        try:
            self._answer = self._ask_in_span()
        except Exception as error:
            self._error = error.with_traceback(None)  # which would keep the connection
        finally:
            forget()
            self._ended.set()

    def _ask_in_span(self) -> _Answer:
        """In the span ``foo.PING`` below the request's, and measured; a script's has none."""
        ask = partial(_ask, self.name, self._factory.connection_pool, self.seconds)
        span = trace.get_current_span()
        if span.get_span_context().is_valid:
            client = self._factory.make_object_for_context(self.name, span)
            if isinstance(client, MonitoredClient):
                return client.run_as_operation(("PING",), ask)
        return ask()

    def health(self, deadline: float) -> ClientHealth:
        """What came of it, until then.

        :param deadline: of :func:`time.monotonic`; a probe that goes on has failed.
        """
        self._ended.wait(max(0.0, deadline - time.monotonic()))
        answer, error = self._answer, self._error
        if answer is not None:
            return ClientHealth(self.name, True, self.required, **vars(answer))
        if error is None:
            time_is_up = "1 second" if self.seconds == 1 else f"{self.seconds:g} seconds"
            error = redis.TimeoutError(
                f"{self.name}: no answer within {time_is_up} ({self.name}.health_timeout)"
            )
        return ClientHealth(self.name, False, self.required, error=error)


def _ask(name: str, pool: Any, seconds: float) -> _Answer:
    if isinstance(pool, ClusterConnectionPool):
        return _ask_primaries(name, pool, seconds)
    breaker = getattr(pool, "breaker", None)
    # While it is open, a probe that may try does so in the place of a request: where nobody sends
    # requests to an application that isn't ready, nobody else would ever find the server back.
    trial = None if breaker is None else breaker.enter()
    keywords = {key: value for key, value in pool.connection_kwargs.items() if key not in _RETRIES}
    wait = seconds * _SHARE_OF_A_WAIT
    keywords |= {"socket_timeout": wait, "socket_connect_timeout": wait}
    connection = pooled_class(pool.connection_class)(**keywords)
    if isinstance(connection, PooledConnection):
        # A probe is less patient than requests are: while the breaker is closed it isn't told.
        connection.attach(name, None if trial is None else breaker)
    try:
        connection.connect()
        started = time.perf_counter()
        connection.send_command("PING")
        connection.read_response()
        return _Answer(time.perf_counter() - started, *_introduction(connection))
    finally:
        connection.disconnect()


def _ask_primaries(name: str, pool: ClusterConnectionPool, seconds: float) -> _Answer:
    """Ask all primaries, as redis-py's ``ping()`` of a Cluster does."""
    cluster = pool.cluster()
    answers = []
    for node in cluster.get_primaries():
        node_pool = cluster.get_redis_connection(node).connection_pool
        try:
            answers.append(_ask(name, node_pool, seconds))
        except _UNREACHABLE:
            # Its slots may be another's meanwhile, and no request may come that would find out.
            with contextlib.suppress(redis.RedisError, RedisClusterException):
                cluster.nodes_manager.initialize(last_failed_node_name=node.name)
            raise
    return _Answer(
        max(answer.latency for answer in answers),
        _all_of([answer.server for answer in answers]),
        _all_of([answer.server_version for answer in answers]),
        _all_of([answer.role for answer in answers]),
    )


def _all_of(told: list[str | None]) -> str | None:
    return ", ".join(sorted({each for each in told if each})) or None


def _introduction(connection: Any) -> tuple[str | None, str | None, str | None]:
    """How the server introduces itself: its name, version and role.

    By HELLO without arguments, which changes nothing, and which no ACL denies to any user.
    """
    try:
        connection.send_command("HELLO")
        reply = connection.read_response()
    except redis.ResponseError:
        return None, None, None
    if not isinstance(reply, dict):  # RESP2
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    told = {str_if_bytes(key): value for key, value in reply.items()}
    server, version, role = (told.get(key) for key in ("server", "version", "role"))
    return _text(server), _text(version), _text(role)


def _text(value: Any) -> str | None:
    return None if value is None else str(str_if_bytes(value))


def ping_all(registry: IComponents) -> list[ClientHealth]:
    """Ask the servers of all clients at once whether they answer.

    Each over a connection that is made for it and closed behind it: no connection of a pool is
    taken, however busy it is. It takes no longer than the longest ``health_timeout`` among the
    clients' settings, even where a server is frozen or the look-up of its name hangs. Of a Cluster
    all primaries are asked, as redis-py's ``ping()`` does. While a client's circuit breaker is
    open it fails at once.

    :param registry: the application's.
    :returns: the clients in the order of their names. Never raises for one that fails.
    """
    # A registry that includeme() hasn't seen keeps none.
    probes = registry.queryUtility(IRedisProbes) or Probes()
    factories = dict(registry.getUtilitiesFor(IRedisContextFactory))
    started = [
        (probes.start(name, factories[name]), time.monotonic()) for name in sorted(factories)
    ]
    return [probe.health(began + probe.seconds) for probe, began in started]
