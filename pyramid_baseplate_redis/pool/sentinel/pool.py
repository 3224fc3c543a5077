"""Behind Sentinel: a pool whose connections go to whoever is the primary now, or to a replica.

Discovery is redis-py's. What is ours: the pool keeps the promises of :mod:`.blocking_pool`, which
redis-py's own Sentinel pool doesn't make, and nothing stays with a primary that was demoted.
"""

from __future__ import annotations

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
from ...telemetry.call_details import note_last_server
from ..blocking_pool import BlockingConnectionPool
from ..connection import PooledConnection
from ..error_messages import explain_unfound
from ..fair_queue import PoolSlot
from .discovery import Address, SentinelManager
from .events import start_listening

_MOST_CONNECTS = 3


class _Proxy(SentinelConnectionPoolProxy):
    """What redis-py's connections know of their pool."""

    def get_master_address(self) -> Address:
        before = self.master_address
        address: Address = super().get_master_address()  # closes the idle ones if it has changed
        pool = self.connection_pool_ref()
        if self.is_master and before not in (None, address) and pool is not None:
            pool.switched(address)
        return address

    def is_right(self, address: Address) -> bool:
        """Whether a connection to there goes where the pool's are to go."""
        return not self.is_master or (
            address == self.master_address and bool(self.sentinel_manager.believes(address))
        )

    def forget(self, address: Address) -> bool:
        """Ask for the primary's address anew if it was this one: the server there is a replica.

        Connections to there are closed when they are released. Returns ``False``: what a caller
        holds isn't closed before.
        """
        if self.master_address == address:
            self.master_address = None
        return False

    def demoted(self, address: Address) -> None:
        """The server there is a replica now."""
        pool = self.connection_pool_ref()
        if pool is not None:
            pool.demoted(address)


class _SentinelConnectionMixin(PooledConnection):
    """Mixed in between our pools' connections and redis-py's Sentinel connections."""

    connection_pool: Any
    host: str
    port: int
    _refusal: redis.AuthenticationError | None = None

    def connect(self) -> None:
        """Ask the Sentinels where to go, and connect.

        :raises redis.sentinel.MasterNotFoundError: if they don't know; likewise for replicas.
        :raises redis.AuthenticationError: if they, or the server, refuse the password.
        """
        try:
            for _ in range(_MOST_CONNECTS):
                super().connect()
                if self.connection_pool.is_right((self.host, self.port)):
                    return
                self.disconnect()  # announced meanwhile, when there was no socket to hang up
            raise MasterNotFoundError("The primary changed while connecting")
        except (MasterNotFoundError, SlaveNotFoundError, redis.AuthenticationError) as error:
            if self._refusal is not None:
                raise self._refusal from None  # redis-py has gone on to the next replica
            proxy = self.connection_pool
            where = f"asked Sentinels {proxy.sentinel_manager.addresses}"
            explain_unfound(error, self.client, f"{where} for {proxy.service_name}")
            if self.breaker is not None:
                self.breaker.failed(error)
            raise
        finally:
            self._refusal = None  # it refers to this connection, which may be dropped

    def reconnect(self) -> None:
        """Connect anew, which may be to another server."""
        self.connect()

    def connect_to(self, address: Address) -> None:
        """Connect to a server; called by redis-py."""
        note_last_server(*address)
        proxy = self.connection_pool
        if proxy.is_master:
            self.report_read_only(partial(proxy.forget, address))
        try:
            super().connect_to(address)  # type: ignore[misc]  # of redis-py's, mixed in
        except redis.AuthenticationError as error:
            self._refusal = error
            raise

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """See :meth:`.PooledConnection.send_packed_command`."""
        if self.is_connected:  # otherwise connect_to() tells
            note_last_server(self.host, self.port)
        super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply; see :class:`redis.sentinel.SentinelManagedConnection`.

        :raises redis.ConnectionError: if the server isn't the primary any longer.
        """
        try:
            return super().read_response(*args, **kwargs)
        except redis.ConnectionError as error:
            if isinstance(error.__context__, redis.ReadOnlyError):
                if self.is_one_command:
                    error.unsent = True  # type: ignore[attr-defined]  # as good as: it was refused
                self.connection_pool.demoted((self.host, self.port))
            raise


class SentinelConnection(_SentinelConnectionMixin, SentinelManagedConnection):
    """A connection to a server that Sentinels name."""


class SentinelSSLConnection(_SentinelConnectionMixin, SentinelManagedSSLConnection):
    """The same with TLS."""


class SentinelBlockingConnectionPool(BlockingConnectionPool):
    """A pool of connections to the primary, or to the replicas, that Sentinels name.

    :param service_name: what the Sentinels call it.
    :param sentinel_manager: asked for addresses.
    :param is_master: whether to connect to the primary; otherwise to its replicas in turn, and to
        the primary where there is none.
    :param check_connection: whether to send a PING on each new connection.
    :param kwargs: as for :class:`~.pool.blocking_pool.BlockingConnectionPool`.

    The names are those of :class:`redis.sentinel.SentinelConnectionPool`, which doesn't wait for a
    free connection, and goes on writing to a demoted primary for as long as that lets it.
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
        self.unheard = deque(sentinel_manager.sentinels)
        kwargs.setdefault("connection_class", SentinelConnection)
        super().__init__(**kwargs)
        self.connection_kwargs["connection_pool"] = self.proxy
        self._on_read_only = None  # its connections report to the proxy

    @property
    def master_address(self) -> Address | None:
        """Where the primary was when it was last asked for."""
        address: Address | None = self.proxy.master_address
        return address

    def get_master_address(self) -> Address:
        """Ask the Sentinels where the primary is.

        :raises redis.sentinel.MasterNotFoundError: if they don't know.
        """
        return self.proxy.get_master_address()

    def rotate_slaves(self) -> Any:
        """The replicas in turn, and the primary last."""
        return self.proxy.rotate_slaves()

    rotate_replicas = rotate_slaves

    def reset(self) -> None:
        """Forget all connections, as a forked process has to."""
        self.proxy.reset()
        self.unheard = deque(self.sentinel_manager.sentinels)
        super().reset()

    def switched(self, address: Address) -> None:
        """The primary is there from now on: nothing stays where it was."""
        if not self.is_master:
            self._leave(lambda there: there == address)  # which was a replica
            return
        self.proxy.master_address = address
        if self.breaker is not None:
            self.breaker.succeeded()  # this one hasn't failed
        self._leave(lambda there: there != address)

    def demoted(self, address: Address) -> None:
        """The server there isn't the primary any longer."""
        self.proxy.forget(address)
        self._leave(lambda there: there == address)

    def _leave(self, is_left: Callable[[Address], bool]) -> None:
        for place in reversed(self.pool.take_all_idle()):
            if is_left(_address_of(place[1])):
                self._close_idle(place[1])
                place[0].vacate()
            else:
                self.pool.put(place)
        self.pool.serve()
        for connection in self._get_in_use_connections():
            if is_left(_address_of(connection)):
                connection.shutdown_socket()

    def _make_ready(self, connection: Any, slot: PoolSlot) -> None:
        if self.unheard:
            start_listening(self)
        if connection.is_connected and not self._is_right(connection):
            self._replaced(connection)
        super()._make_ready(connection, slot)

    def _may_be_used_again(self, connection: Any, slot: PoolSlot, now: float) -> bool:
        return self._is_right(connection) and super()._may_be_used_again(connection, slot, now)

    def _is_right(self, connection: Any) -> bool:
        return self.proxy.is_right(_address_of(connection))


def _address_of(connection: Any) -> Address:
    try:
        return connection.host, connection.port
    except PoolReleaseError:  # another thread's, who has released it meanwhile
        return "", 0
