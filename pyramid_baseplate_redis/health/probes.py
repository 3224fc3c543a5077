"""Health probes: PING to the server of each client, within a time limit.

A probe opens a connection of its own, in a thread of its own. A busy pool doesn't fail it, and a
hanging name look-up doesn't block the caller.
"""

from __future__ import annotations

import contextlib
import contextvars
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
from ..runtime.process_local import ProcessLocal

if TYPE_CHECKING:
    from zope.interface.interfaces import IComponents

_SECONDS = 1.0  # the limit for a pool that wasn't built from settings
# The share of the limit for each step. Most probes then end before the limit, with an error that
# says which step took too long.
_SHARE_OF_A_WAIT = 0.9
# redis-py's keywords for retries, which a probe doesn't make
_RETRIES = ("retry", "retry_on_timeout", "retry_on_error")
_UNREACHABLE = (redis.ConnectionError, redis.TimeoutError)


@dataclass(frozen=True)
class ClientHealth:
    """The health of one client's server.

    ``latency``, ``server``, ``server_version`` and ``role`` are ``None`` if the probe failed. The
    last three are also ``None`` if the server is older than Redis 6, which doesn't report them.

    :param name: the client's name.
    :param ok: whether the server answered PING, after the login, within ``health_timeout``.
    :param required: the setting ``required``: whether the application needs this client.
    :param latency: seconds from sending PING to its reply, without connecting; on a Cluster, those
        of the slowest primary.
    :param server: the server's own name, ``redis`` or ``valkey``.
    :param server_version: the server's version.
    :param role: the server's role in its own words, ``master`` or ``replica``.
    :param error: the reason of a failure, or ``None``.
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
class Answer:
    """A server's answer; see :class:`ClientHealth` for the fields."""

    latency: float
    server: str | None
    server_version: str | None
    role: str | None


@implementer(IRedisProbes)
class Probes:
    """The probes that are running, at most one per client and process.

    A probe may outlive its caller's wait: a name look-up, for example, takes as long as the
    operating system lets it. Callers that come in the meantime wait for the same probe.
    """

    def __init__(self) -> None:
        # The keys contain the process id: a fork copies the dictionary but not the threads, so the
        # parent's probes would never end in the child.
        self._under_way: ProcessLocal[dict[str, Probe]] = ProcessLocal(dict)

    def start(self, name: str, factory: Any) -> Probe:
        """Start a probe, or return the client's running one.

        :param name: the client's name.
        :param factory: the client's :class:`~.interfaces.IRedisContextFactory`.
        """
        under_way = self._under_way.own()
        probe = Probe(name, factory)
        started = under_way.setdefault(name, probe)
        if started is probe:
            probe.start(partial(under_way.pop, name, None))
        return started


class Probe:
    """Asks the server of one client, in a thread of its own (under gevent, a greenlet).

    :param name: the client's name.
    :param factory: the client's :class:`~.interfaces.IRedisContextFactory`.
    """

    def __init__(self, name: str, factory: Any) -> None:
        settings = getattr(factory.connection_pool, "client_settings", None)
        self.name = name
        self.required = True if settings is None else settings.required
        self.seconds = _SECONDS if settings is None else settings.health_timeout.total_seconds()
        self._factory = factory
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._ended = threading.Event()

    def start(self, forget: Callable[[], object]) -> None:
        """Start the thread, which calls ``forget`` when the probe ends.

        If no thread can be started, the probe has failed.
        """
        # The thread runs in the caller's context, so its span is a child of the request's span.
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
            self._error = error.with_traceback(None)  # a traceback would keep the connection alive
        finally:
            forget()
            self._ended.set()

    def _ask_in_span(self) -> Answer:
        """Ask, with a span ``foo.PING`` and metrics if a request asks; a script gets neither."""
        ask = partial(_ask, self.name, self._factory.connection_pool, self.seconds)
        span = trace.get_current_span()
        if span.get_span_context().is_valid:
            client = self._factory.make_object_for_context(self.name, span)
            if isinstance(client, MonitoredClient):
                return client.run_as_operation(("PING",), ask)
        return ask()

    def health(self, deadline: float) -> ClientHealth:
        """Wait for the end of the probe and return the result.

        :param deadline: in seconds of :func:`time.monotonic`. A probe that is still running then
            counts as failed, with :exc:`redis.TimeoutError` as its error.
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


def _ask(name: str, pool: Any, seconds: float) -> Answer:
    if isinstance(pool, ClusterConnectionPool):
        return _ask_primaries(name, pool, seconds)
    return ask_server(name, pool, seconds)


def ask_server(name: str, pool: Any, seconds: float | None = None) -> Answer:
    """Ask a pool's server for a PING over a new connection, which is closed afterwards.

    :param name: the client's name, for errors.
    :param pool: the server's pool.
    :param seconds: the limit for each step; by default the pool's own timeouts apply.
    :raises redis.RedisError: the server cannot be reached, or refuses the login or the command.
    """
    breaker = getattr(pool, "breaker", None)
    # While the circuit breaker is open, this probe may be the one call that tries the server. An
    # application that isn't ready gets no requests, so no request would find the server back.
    trial = None if breaker is None else breaker.enter()
    keywords = {key: value for key, value in pool.connection_kwargs.items() if key not in _RETRIES}
    if seconds is not None:
        wait = seconds * _SHARE_OF_A_WAIT
        keywords |= {"socket_timeout": wait, "socket_connect_timeout": wait}
    connection = pooled_class(pool.connection_class)(**keywords)
    if isinstance(connection, PooledConnection):
        # The breaker only counts a probe that it let through. A probe has shorter timeouts than
        # requests, so its failures must not open a closed breaker.
        connection.attach(name, None if trial is None else breaker)
    try:
        connection.connect()
        started = time.perf_counter()
        connection.send_command("PING")
        connection.read_response()
        return Answer(time.perf_counter() - started, *_introduction(connection))
    finally:
        connection.disconnect()


def _ask_primaries(name: str, pool: ClusterConnectionPool, seconds: float) -> Answer:
    """Ask all primaries, as redis-py's ``ping()`` of a Cluster does."""
    cluster = pool.cluster()
    answers = []
    for node in cluster.get_primaries():
        node_pool = cluster.get_redis_connection(node).connection_pool
        try:
            answers.append(_ask(name, node_pool, seconds))
        except _UNREACHABLE:
            # Another node may have taken over the slots. Read the layout again: no request may
            # come that would do it.
            with contextlib.suppress(redis.RedisError, RedisClusterException):
                cluster.nodes_manager.initialize(last_failed_node_name=node.name)
            raise
    return Answer(
        max(answer.latency for answer in answers),
        _all_of([answer.server for answer in answers]),
        _all_of([answer.server_version for answer in answers]),
        _all_of([answer.role for answer in answers]),
    )


def _all_of(values: list[str | None]) -> str | None:
    return ", ".join(sorted({value for value in values if value})) or None


def _introduction(connection: Any) -> tuple[str | None, str | None, str | None]:
    """Return the server's name, version and role; ``None`` for each if it doesn't know HELLO.

    HELLO without arguments changes nothing, and every user of ACLs may call it.
    """
    try:
        connection.send_command("HELLO")
        reply = connection.read_response()
    except redis.ResponseError:
        return None, None, None
    if not isinstance(reply, dict):  # RESP2
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    facts = {str_if_bytes(key): value for key, value in reply.items()}
    server, version, role = (facts.get(key) for key in ("server", "version", "role"))
    return _text(server), _text(version), _text(role)


def _text(value: Any) -> str | None:
    return None if value is None else str(str_if_bytes(value))


def ping_all(registry: IComponents) -> list[ClientHealth]:
    """Ask the servers of all clients, in parallel, whether they answer.

    Each server is asked over a new connection that is closed afterwards. No connection of a pool
    is used. On a Cluster all primaries are asked, as by redis-py's ``ping()``. A client whose
    circuit breaker is open fails at once.

    The call returns within the longest ``health_timeout`` of the clients, even if a server is
    frozen or a name look-up hangs. It doesn't raise if a server fails.

    :param registry: the application's registry.
    :returns: one result per client, in the order of their names.
    """
    # A registry without includeme() has no Probes.
    probes = registry.queryUtility(IRedisProbes) or Probes()
    factories = dict(registry.getUtilitiesFor(IRedisContextFactory))
    started = [
        (probes.start(name, factories[name]), time.monotonic()) for name in sorted(factories)
    ]
    return [probe.health(began + probe.seconds) for probe, began in started]
