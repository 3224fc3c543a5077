"""The pool for Sentinel: connections to the current primary, or to its replicas.

Discovery is redis-py's. The pool adds the guarantees of :mod:`.blocking_pool`, which redis-py's
own Sentinel pool lacks, and closes all connections to a primary that was demoted.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from redis.sentinel import (
    MasterNotFoundError,
    SentinelConnectionPoolProxy,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
    SlaveNotFoundError,
)

from ...exceptions import PoolReleaseError
from ...runtime.deadline import current_deadline
from ...telemetry.call_details import note_last_server
from ..blocking_pool import BlockingConnectionPool
from ..connection import PooledConnection
from ..connections.slot import PoolSlot
from ..error_messages import explain_unfound
from .discovery import Address, SentinelManager
from .events import start_listening

_MOST_CONNECTS = 3


class _Proxy(SentinelConnectionPoolProxy):
    """The view of the pool that redis-py's connections have."""

    def get_master_address(self) -> Address:
        before = self.master_address
        # If the address has changed, redis-py closes the idle connections.
        address: Address = super().get_master_address()
        pool = self.connection_pool_ref()
        if self.is_master and before not in (None, address) and pool is not None:
            pool.switched(address)
        return address

    def is_right(self, address: Address) -> bool:
        """Return whether the pool may have connections to this address."""
        return not self.is_master or (
            address == self.master_address and bool(self.sentinel_manager.believes(address))
        )

    def forget(self, address: Address) -> bool:
        """Ask for the primary's address again if it was this one, which is a replica now.

        Connections to it are closed when they are released.

        :returns: ``False``, so that a connection in use isn't closed before.
        """
        if self.master_address == address:
            self.master_address = None
        return False

    def demoted(self, address: Address) -> None:
        """Notify the pool that the server at this address is a replica now."""
        pool = self.connection_pool_ref()
        if pool is not None:
            pool.demoted(address)


class _SentinelConnectionMixin(PooledConnection):
    """A mixin between :class:`PooledConnection` and redis-py's Sentinel connections."""

    # The direct way knows what redis-py's Sentinel connections and this class do for a command.
    direct_modules = PooledConnection.direct_modules | {
        SentinelManagedConnection.__module__,
        __name__,
    }

    is_discovered = True
    connection_pool: Any
    host: str
    port: int
    _refusal: redis.AuthenticationError | None = None

    def connect(self) -> None:
        """Ask the Sentinels for an address, and connect to it.

        :raises redis.sentinel.MasterNotFoundError: they report no primary.
        :raises redis.sentinel.SlaveNotFoundError: they report no replica and no primary.
        :raises redis.AuthenticationError: they or the server refuse the password.
        """
        try:
            for _ in range(_MOST_CONNECTS):
                super().connect()
                if self.connection_pool.is_right((self.host, self.port)):
                    return
                self.disconnect()  # a failover was announced while there was no socket to close
            raise MasterNotFoundError("The primary changed while connecting")
        except (MasterNotFoundError, SlaveNotFoundError, redis.AuthenticationError) as error:
            if self._refusal is not None:
                raise self._refusal from None  # redis-py dropped it to try the next replica
            proxy = self.connection_pool
            where = f"asked Sentinels {proxy.sentinel_manager.addresses}"
            explain_unfound(error, self.client, f"{where} for {proxy.service_name}")
            deadline = current_deadline()
            if self.breaker is not None and (deadline is None or not deadline.has_run_out):
                self.breaker.failed(error)
            raise
        finally:
            self._refusal = None  # its traceback refers to this connection and would keep it alive

    def reconnect(self) -> None:
        """Connect again, maybe to another server."""
        self.connect()

    def connect_to(self, address: Address) -> None:
        """Connect to a server; redis-py calls this with each address that it tries."""
        note_last_server(*address)
        proxy = self.connection_pool
        if proxy.is_master:
            self.report_read_only(partial(proxy.forget, address))
        try:
            super().connect_to(address)  # type: ignore[misc]  # redis-py's other base class has it
        except redis.AuthenticationError as error:
            self._refusal = error
            raise

    def _expect_replies(self, count: int, states: tuple[int, ...]) -> None:
        note_last_server(self.host, self.port)
        super()._expect_replies(count, states)

    def is_quiet(self) -> bool:
        """Return whether it is quiet, and leads to a server that the pool may use."""
        return self._is_right() and super().is_quiet()

    def is_reusable(self) -> bool:
        """Return whether it may go to another caller: its server is still the right one, too."""
        return self._is_right() and super().is_reusable()

    def _is_right(self) -> bool:
        right: bool = self.connection_pool.is_right((self.host, self.port))
        return right

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply; see :class:`redis.sentinel.SentinelManagedConnection`.

        :raises redis.ConnectionError: the server isn't the primary any longer, or the connection
            is lost.
        """
        try:
            return super().read_response(*args, **kwargs)
        except redis.ConnectionError as error:
            if isinstance(error.__context__, redis.ReadOnlyError):
                self._was_demoted(error)
            raise

    def _looked_into(self, reply: Any, decode: bool, timeout: Any) -> Any:
        # As redis-py's connections do it in their read_response().
        reply = super()._looked_into(reply, decode, timeout)
        if isinstance(reply, redis.ReadOnlyError) and self.connection_pool.is_master:
            error = redis.ConnectionError("The previous master is now a slave")
            error.__context__ = reply
            self._was_demoted(error)
            raise error
        return reply

    def _was_demoted(self, error: redis.ConnectionError) -> None:
        if self.is_one_command:
            error.unsent = True  # type: ignore[attr-defined]  # all of it was refused
        self.connection_pool.demoted((self.host, self.port))


class SentinelConnection(_SentinelConnectionMixin, SentinelManagedConnection):
    """A connection to a server that Sentinels name."""


class SentinelSSLConnection(_SentinelConnectionMixin, SentinelManagedSSLConnection):
    """A connection with TLS to a server that Sentinels name."""


class SentinelBlockingConnectionPool(BlockingConnectionPool):
    """A pool of connections to the primary, or to the replicas, that Sentinels name.

    :param service_name: the name by which the Sentinels know the primary.
    :param sentinel_manager: asks the Sentinels for addresses.
    :param is_master: ``True`` connects to the primary. ``False`` connects to its replicas in turn,
        and to the primary if there are none.
    :param check_connection: whether to send a PING on each new connection.
    :param kwargs: as for :class:`~.pool.blocking_pool.BlockingConnectionPool`.

    The names are those of :class:`redis.sentinel.SentinelConnectionPool`. That pool doesn't wait
    for a free connection, and writes to a demoted primary until it refuses.
    """

    def __init__(
        self,
        service_name: str,
        sentinel_manager: SentinelManager,
        *,
        is_master: bool = True,
        check_connection: bool = False,
        **kwargs: Any,
    ) -> None:
        self.service_name = service_name
        self.sentinel_manager = sentinel_manager
        self.is_master = is_master
        self.check_connection = check_connection
        self.proxy = _Proxy(self, is_master, check_connection, service_name, sentinel_manager)
        self.unsubscribed = deque(sentinel_manager.sentinels)
        kwargs.setdefault("connection_class", SentinelConnection)
        super().__init__(**kwargs)
        self.connection_kwargs["connection_pool"] = self.proxy
        self._on_read_only = None  # its connections report refused writes to the proxy

    @property
    def master_address(self) -> Address | None:
        """Return the primary's address from the last discovery; ``None`` if it isn't known."""
        address: Address | None = self.proxy.master_address
        return address

    def get_master_address(self) -> Address:
        """Ask the Sentinels for the primary's address.

        :raises redis.sentinel.MasterNotFoundError: they report no primary.
        :raises redis.AuthenticationError: they refuse the user name and the password.
        """
        return self.proxy.get_master_address()

    def rotate_slaves(self) -> Any:
        """Return an iterator over the addresses of the replicas in turn, and the primary's last."""
        return self.proxy.rotate_slaves()

    rotate_replicas = rotate_slaves

    def reset(self) -> None:
        """Forget all connections and listeners, as redis-py does in a forked process."""
        self.proxy.reset()
        self.unsubscribed = deque(self.sentinel_manager.sentinels)
        super().reset()

    def switched(self, address: Address) -> None:
        """Close the connections that a failover to ``address`` has made wrong."""
        if not self.is_master:
            self._close_stale(lambda there: there == address)  # no longer a replica
            return
        self.proxy.master_address = address
        if self.breaker is not None:
            self.breaker.succeeded()  # the new primary hasn't failed
        self._close_stale(lambda there: there != address)

    def demoted(self, address: Address) -> None:
        """Close all connections to a server that isn't the primary any longer."""
        self.proxy.forget(address)
        self._close_stale(lambda there: there == address)

    def _close_stale(self, is_stale: Callable[[Address], bool]) -> None:
        for entry in reversed(self.pool.take_all_idle()):
            if is_stale(_address_of(entry[1])):
                self._close_idle(entry[0], entry[1])
            else:
                self.pool.put(entry)
        self.pool.serve()
        for connection in self._get_in_use_connections():
            if is_stale(_address_of(connection)):
                connection.shutdown_socket()

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Check out a connection; see :meth:`.BlockingConnectionPool.get_connection`.

        :raises redis.sentinel.MasterNotFoundError: the Sentinels report no primary.
        :raises redis.sentinel.SlaveNotFoundError: they report no replica and no primary.
        """
        if self.pid != os.getpid():
            self._checkpid()
        if self.unsubscribed:
            start_listening(self)
        return super().get_connection()

    def _make_ready(self, connection: Any, slot: PoolSlot) -> None:
        if connection.is_connected and not self.proxy.is_right(_address_of(connection)):
            self._replace(connection, slot)
        super()._make_ready(connection, slot)


def _address_of(connection: Any) -> Address:
    try:
        return connection.host, connection.port
    except PoolReleaseError:  # another thread has released it meanwhile
        return "", 0
