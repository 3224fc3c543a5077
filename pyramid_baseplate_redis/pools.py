"""Connection pools: ClientSettings become a redis-py pool. Nothing here opens a socket."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from queue import Empty, Full
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.observability import recorder
from redis.retry import Retry

from .exceptions import ConfigurationError
from .files import PasswordFile, check_files
from .settings import ClientSettings
from .slots import FairLifoQueue


class BlockingConnectionPool(redis.BlockingConnectionPool):
    """redis-py's pool, built from :class:`~.settings.ClientSettings`.

    :param client_settings: what it was built from, or ``None``; public as an attribute.
    :param connection_kwargs: as for :class:`redis.BlockingConnectionPool`.
    :raises TypeError: if the connection class doesn't know a keyword argument. redis-py raises
        that on first use, and leaks a slot of the pool each time.
    """

    def __init__(
        self, *, client_settings: ClientSettings | None = None, **connection_kwargs: Any
    ) -> None:
        self.client_settings = client_settings
        connection_kwargs.setdefault("queue_class", FairLifoQueue)
        _check_keywords(type(self), connection_kwargs)
        super().__init__(**connection_kwargs)

    def make_connection(self) -> Any:
        try:
            return super().make_connection()
        except BaseException:
            # redis-py took the slot out of the queue and would never put it back.
            self.pool.put_nowait(None)
            raise

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """A connection that is ready for a command; it has to be released.

        :raises redis.exceptions.MaxConnectionsError: if none became free within ``timeout``
            seconds. redis-py raises its base class, with the same text.
        """
        if not self._plain():
            return super().get_connection()
        self._checkpid()
        try:
            connection = self.pool.get(True, self.timeout)
        except Empty:
            raise redis.exceptions.MaxConnectionsError("No connection available.") from None
        if connection is None:
            connection = self.make_connection()
        try:
            connection.connect()
            try:
                ready = not connection.can_read()
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                ready = False
            if not ready:
                # The server has closed it, or a reply was never read.
                connection.disconnect()
                connection.connect()
                if connection.can_read():
                    raise redis.ConnectionError("Connection not ready")
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        self._checkpid()
        if not self._plain() or not self.owns_connection(connection):
            super().release(connection)
            return
        if connection.should_reconnect():
            connection.disconnect()
        with contextlib.suppress(Full):
            self.pool.put_nowait(connection)

    def _plain(self) -> bool:
        """Whether all is off that redis-py's pool does besides, which costs half of its time.

        That is its own metrics, its client-side cache and its maintenance notifications.
        """
        return not (
            recorder.is_enabled() or self.cache is not None or self.maint_notifications_enabled()
        )

    def set_retry(self, retry: Retry) -> None:
        # redis-py's own looks for attributes that only its non-blocking pool has.
        self.connection_kwargs.update(retry=retry)
        for connection in list(self._connections):
            connection.retry = retry


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _check_keywords(pool_class: type, keywords: Mapping[str, Any]) -> None:
    connection_class = keywords.get("connection_class", redis.Connection)
    if not isinstance(connection_class, type):
        return  # any callable will do for redis-py, and nobody can tell what it takes
    known: set[str] = {"cache", "cache_config"}
    for cls in (*pool_class.__mro__, *connection_class.__mro__):
        if "__init__" in vars(cls) and cls is not object:
            parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
            known.update(item.name for item in parameters if item.kind not in _VARIABLE)
    unknown = sorted(set(keywords) - known)
    if unknown:
        raise TypeError(
            f"unexpected keyword argument {unknown[0]!r}: neither {pool_class.__name__} nor "
            f"{connection_class.__name__} has it"
        )


class _Retry(Retry):
    """redis-py's retries, but never for a wrong password, which is a connection error to it."""

    def call_with_retry(
        self, do: Any, fail: Any, is_retryable: Any = None, with_failure_count: bool = False
    ) -> Any:
        def retryable(error: Exception) -> bool:
            if isinstance(error, redis.AuthenticationError):
                return False
            return is_retryable is None or bool(is_retryable(error))

        return super().call_with_retry(do, fail, retryable, with_failure_count)


def pool_from_config(
    app_config: Mapping[str, Any], prefix: str = "redis.", **kwargs: Any
) -> redis.BlockingConnectionPool:
    """Make a connection pool from the settings that start with ``prefix``.

    :param app_config: the application's settings.
    :param prefix: what the keys start with, dot included.
    :param kwargs: passed to :class:`redis.BlockingConnectionPool` and through it to its
        connections; they win over the settings. Times are seconds here, as in redis-py.
    :returns: a pool that has not opened any socket.
    :raises ConfigurationError: if a setting is missing, malformed or names an unreadable file.
    :raises TypeError: if redis-py doesn't know a keyword argument.

    The name and the parameters are those of ``baseplate.clients.redis.pool_from_config``.
    """
    return pool_from_settings(ClientSettings.from_config(app_config, prefix), **kwargs)


def pool_from_settings(settings: ClientSettings, **kwargs: Any) -> BlockingConnectionPool:
    """Make the pool of a client; like :func:`pool_from_config`, from settings already read."""
    check_files(settings)
    keywords: dict[str, Any] = {
        "max_connections": settings.max_connections,
        "timeout": settings.pool_timeout.total_seconds(),
        "db": settings.db,
        "socket_timeout": settings.socket_timeout.total_seconds(),
        "socket_connect_timeout": settings.socket_connect_timeout.total_seconds(),
        "health_check_interval": settings.health_check_interval.total_seconds(),
        "protocol": settings.protocol,
        "decode_responses": settings.decode_responses,
        "client_name": settings.client_name,
        # With "auto", redis-py no longer checks at checkout that no unread reply is left.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **_address(settings),
    }
    if settings.retries:
        keywords["retry"] = _Retry(ExponentialWithJitterBackoff(base=0.01, cap=1), settings.retries)
    return BlockingConnectionPool(
        client_settings=settings, **(keywords | kwargs | _credentials(settings, kwargs))
    )


def _credentials(settings: ClientSettings, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments first; redis-py takes either a provider or a user name and a password."""
    if kwargs.get("credential_provider") is not None:
        return {}
    username = kwargs.get("username", settings.username)
    if settings.password_file is not None and kwargs.get("password") is None:
        key = f"{settings.prefix}password_file"
        provider = PasswordFile(key, username, settings.password_file)
        return {"credential_provider": provider, "username": None, "password": None}
    return {"username": username, "password": kwargs.get("password", settings.password)}


def _address(settings: ClientSettings) -> dict[str, Any]:
    url = settings.parsed_url
    if url.scheme == "embedded":
        # Not above: production needn't load what starts servers.
        from .embedded import EmbeddedConnection, missing_extra

        if missing := missing_extra():
            raise ConfigurationError(f"{settings.prefix}url: {missing}")
        return {"connection_class": EmbeddedConnection, "directory": url.path or None}
    if url.scheme == "unix":
        return {"connection_class": redis.UnixDomainSocketConnection, "path": url.path}
    address = {
        "host": url.host,
        "port": url.port,
        "socket_keepalive": settings.socket_keepalive,
    }
    if url.scheme != "rediss":
        return address
    return address | settings.tls | {"connection_class": redis.SSLConnection}
