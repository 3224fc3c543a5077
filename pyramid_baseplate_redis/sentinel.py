"""Behind Sentinel: a pool whose connections go to whoever is the primary now, or to a replica.

Discovery is redis-py's. What is ours: the pool keeps the promises of :mod:`.blocking_pool`, which
redis-py's own Sentinel pool doesn't make, and nothing stays with a primary that was demoted.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPoolProxy,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
    SlaveNotFoundError,
)

from .announcements import start_listening
from .blocking_pool import BlockingConnectionPool
from .explanations import explain_unfound
from .notes import note_server
from .pooled_connection import PooledConnection
from .slots import Slot

Address = tuple[str, int]
_LONGEST_DOUBT = 5.0  # seconds; Sentinels look every second whether a promotion is complete


class SentinelManager(Sentinel):
    """redis-py's :class:`~redis.sentinel.Sentinel`, which forgets nothing that it has learned.

    Sentinels hear of a failover one after the other, some 2 seconds late. Each tells its
    configuration's epoch with the address: what is older than what was seen is not believed.

    :param sentinels: clients of the Sentinels.
    :param min_other_sentinels: how many others a Sentinel has to see to be believed.
    """

    def __init__(self, sentinels: Sequence[redis.Redis], min_other_sentinels: int = 0) -> None:
        super().__init__([], min_other_sentinels=min_other_sentinels, sentinel_kwargs={})
        self.sentinels = list(sentinels)
        # The newest epoch that was seen, and the primary's address where it was announced.
        self._known: tuple[int, Address | None] = (0, None)
        # A primary that is about to be demoted, and until when it is not believed in.
        self._doubted: tuple[Address | None, float] = (None, 0.0)

    @property
    def addresses(self) -> str:
        """Where the Sentinels are, for messages."""
        keywords = [client.connection_pool.connection_kwargs for client in self.sentinels]
        return ", ".join(sorted(f"{each['host']}:{each['port']}" for each in keywords))

    def discover_master(self, service_name: str) -> Address:
        """Ask for the primary's address.

        :raises redis.sentinel.MasterNotFoundError: if no Sentinel knows one.
        """
        # redis-py reorders its list of Sentinels without a lock, and may lose one.
        own = copy.copy(self)
        own.sentinels = [*self.sentinels]
        try:
            host, port = super(SentinelManager, own).discover_master(service_name)
        finally:
            self._known = max(self._known, own._known, key=lambda known: known[0])
        self.sentinels = own.sentinels
        return host, port

    def check_master_state(self, state: dict[str, Any], service_name: str) -> bool:
        """Whether what a Sentinel says of the primary is to be believed; called by redis-py."""
        known, address = self._known
        doubted, until = self._doubted
        if doubted == (state["ip"], state["port"]) and time.monotonic() < until:
            return False
        epoch: int = state.get("config-epoch", 0)
        if epoch > known:
            self._known = (epoch, None)
        elif epoch < known or address not in (None, (state["ip"], state["port"])):
            return False
        return bool(super().check_master_state(state, service_name))

    def learn(self, epoch: int, address: Address) -> bool:
        """Believe an announcement, unless it is old news; whether it is news."""
        known, announced = self._known
        if epoch < known or (epoch == known and announced is not None):
            return False
        self._known = (epoch, address)
        self._doubted = (None, 0.0)
        return True

    def doubt(self, address: Address) -> None:
        """The server there is about to be demoted: what it acknowledges now may be lost.

        That is announced before it happens, who takes over behind it. Should nobody, all stays as
        it was, after 5 seconds.
        """
        self._doubted = (address, time.monotonic() + _LONGEST_DOUBT)


class _Proxy(SentinelConnectionPoolProxy):
    """What redis-py's connections know of their pool."""

    def get_master_address(self) -> Address:
        before = self.master_address
        address: Address = super().get_master_address()  # closes the idle ones if it has changed
        pool = self.connection_pool_ref()
        if self.is_master and before not in (None, address) and pool is not None:
            pool.switched(address)
        return address

    def demoted(self, address: Address) -> None:
        """The server there is a replica now."""
        pool = self.connection_pool_ref()
        if pool is not None:
            pool.demoted(address)


class _BehindSentinel(PooledConnection):
    """Mixed in between our pools' connections and redis-py's Sentinel connections."""

    connection_pool: Any
    host: str
    port: int

    def connect(self) -> None:
        """Ask the Sentinels where to go, and connect.

        :raises redis.sentinel.MasterNotFoundError: if they don't know; likewise for replicas.
        """
        try:
            super().connect()
        except (MasterNotFoundError, SlaveNotFoundError) as error:
            proxy = self.connection_pool
            where = f"asked Sentinels {proxy.sentinel_manager.addresses}"
            explain_unfound(error, self.client, f"{where} for {proxy.service_name}")
            if self.breaker is not None:
                self.breaker.failed(error)
            raise

    def reconnect(self) -> None:
        """Connect anew, which may be to another server."""
        self.connect()

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read a reply; see :class:`redis.sentinel.SentinelManagedConnection`.

        :raises redis.ConnectionError: if the server isn't the primary any longer.
        """
        try:
            return super().read_response(*args, **kwargs)
        except redis.ConnectionError as error:
            if isinstance(error.__context__, redis.ReadOnlyError):
                error.unsent = True  # type: ignore[attr-defined]  # as good as: it was refused
                self.connection_pool.demoted((self.host, self.port))
            raise


class SentinelConnection(_BehindSentinel, SentinelManagedConnection):
    """A connection to a server that Sentinels name."""


class SentinelSSLConnection(_BehindSentinel, SentinelManagedSSLConnection):
    """The same with TLS."""


class SentinelBlockingConnectionPool(BlockingConnectionPool):
    """A pool of connections to the primary, or to the replicas, that Sentinels name.

    :param service_name: what the Sentinels call it.
    :param sentinel_manager: asked for addresses.
    :param is_master: whether to connect to the primary; otherwise to its replicas in turn, and to
        the primary where there is none.
    :param check_connection: whether to send a PING on each new connection.
    :param kwargs: as for :class:`~.blocking_pool.BlockingConnectionPool`.

    The names are those of :class:`redis.sentinel.SentinelConnectionPool`, which doesn't wait for a
    free connection, and goes on writing to a demoted primary for as long as that lets it.
    """

    tells_server = True

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
        self._listens = False
        kwargs.setdefault("connection_class", SentinelConnection)
        super().__init__(**kwargs)
        self.connection_kwargs["connection_pool"] = self.proxy

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
        self._listens = False
        super().reset()

    def switched(self, address: Address) -> None:
        """The primary is there from now on: nothing stays where it was."""
        if not self.is_master:
            self.disconnect(inuse_connections=False)
            return
        self.proxy.master_address = address
        self._leave(lambda there: there != address)

    def demoted(self, address: Address) -> None:
        """The server there isn't the primary any longer."""
        if self.proxy.master_address == address:
            self.proxy.master_address = None
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
                connection.hang_up()

    def _make_ready(self, connection: Any, slot: Slot) -> None:
        if not self._listens:
            self._listens = start_listening(self)
        if connection.is_connected and not self._is_right(connection):
            self._replaced(connection)
        super()._make_ready(connection, slot)
        note_server(connection.host, connection.port)

    def _may_be_used_again(self, connection: Any, slot: Slot, now: float) -> bool:
        return self._is_right(connection) and super()._may_be_used_again(connection, slot, now)

    def _is_right(self, connection: Any) -> bool:
        return not self.is_master or _address_of(connection) == self.proxy.master_address


def _address_of(connection: Any) -> Address:
    return connection.host, connection.port
