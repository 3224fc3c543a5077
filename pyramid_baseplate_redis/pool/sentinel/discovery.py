"""Asks Sentinels where the primary is, and believes the newest configuration epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
)

Address = tuple[str, int]


_LONGEST_DOUBT = 5.0  # seconds; Sentinels look every second whether a promotion is complete


_LONGEST_LAG = 10.0  # seconds; they tell each other every two


_REFUSED = redis.AuthenticationError.__name__


class _NoAnswerError(redis.ConnectionError):
    """A Sentinel can't be asked. redis-py puts its repr() into a message: it says why."""

    __repr__ = redis.ConnectionError.__str__


class SentinelClient(redis.Redis):
    """Asks one Sentinel."""

    def sentinel_masters(self) -> Any:
        """The primaries that it watches, by name.

        :raises redis.ConnectionError: if it can't tell: whoever asks goes on to the next one.
        """
        try:
            return super().sentinel_masters()
        except redis.RedisError as error:  # also if it isn't a Sentinel, or not for this user
            pool: Any = self.connection_pool
            text = str(error).removeprefix(f"{pool.name}: ")
            raise _NoAnswerError(f"{type(error).__name__}: {text}") from error

    def __repr__(self) -> str:
        """Where it is: redis-py puts this into its messages."""
        keywords = self.connection_pool.connection_kwargs
        return f"{keywords['host']}:{keywords['port']}"


class _FailoverState:
    """What was learned, by several threads: each step is one operation on a dictionary or so."""

    def __init__(self) -> None:
        # The primary's address by the configuration's epoch; ``None`` where it wasn't announced.
        self.addresses: dict[int, Address | None] = {0: None}
        # A primary that is about to be demoted, and until when it is not believed in.
        self.doubted: tuple[Address | None, float] = (None, 0.0)
        # Since when most Sentinels tell of nothing but older epochs.
        self.outdated_since: float | None = None

    @property
    def newest(self) -> tuple[int, Address | None]:
        addresses = self.addresses
        epoch = max(addresses)
        return epoch, addresses[epoch]

    def doubts(self, address: Address) -> bool:
        doubted, until = self.doubted
        return doubted == address and time.monotonic() < until


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
        self._knowledge = _FailoverState()
        # Of one discovery, in a copy of its own: whom a Sentinel has promoted and doesn't name yet,
        # and how many Sentinels were behind.
        self._promoted: Address | None = None
        self._outdated = 0

    @property
    def addresses(self) -> str:
        """Where the Sentinels are, for messages."""
        keywords = [client.connection_pool.connection_kwargs for client in self.sentinels]
        return ", ".join(sorted(f"{each['host']}:{each['port']}" for each in keywords))

    def discover_master(self, service_name: str) -> Address:
        """Ask for the primary's address.

        :raises redis.sentinel.MasterNotFoundError: if no Sentinel knows one.
        :raises redis.AuthenticationError: if all refuse the user name and the password.
        """
        # redis-py reorders its list of Sentinels without a lock, and may lose one.
        own = copy.copy(self)
        own.sentinels = [*self.sentinels]
        own._promoted, own._outdated = None, 0
        try:
            host, port = super(SentinelManager, own).discover_master(service_name)
        except MasterNotFoundError as error:
            if own._promoted is not None:
                return own._promoted
            if own._is_outlived():
                return self.discover_master(service_name)
            if str(error).count(f" - {_REFUSED}: ") == len(own.sentinels):
                # Nor will they have it the next time.
                raise redis.AuthenticationError(*error.args) from None
            raise
        self.sentinels = own.sentinels
        self._knowledge.outdated_since = None
        return host, port

    def check_master_state(self, state: dict[str, Any], service_name: str) -> bool:
        """Whether what a Sentinel says of the primary is to be believed; called by redis-py."""
        epoch: int = state.get("config-epoch", 0)
        self._knowledge.addresses.setdefault(epoch, None)
        newest, announced = self._knowledge.newest
        if epoch < newest:
            self._outdated += 1
            return False
        address = (state["ip"], state["port"])
        if announced not in (None, address) and "failover_in_progress" in state["flags"]:
            # It waits for the other replicas to follow, and tells the old address until they do.
            self._promoted = announced
        return self.believes(address) and bool(super().check_master_state(state, service_name))

    def believes(self, address: Address) -> bool:
        """Whether nothing that was announced speaks against the primary being there."""
        _, announced = self._knowledge.newest
        return announced in (None, address) and not self._knowledge.doubts(address)

    def learn(self, epoch: int, address: Address) -> bool:
        """Believe an announcement, unless it is old news; whether it is news."""
        newest, announced = self._knowledge.newest
        if epoch < newest or (epoch == newest and announced is not None):
            return False
        self._knowledge.addresses[epoch] = address
        self._knowledge.doubted = (None, 0.0)
        self._knowledge.outdated_since = None
        return True

    def doubt(self, address: Address) -> None:
        """The server there is about to be demoted: what it acknowledges now may be lost.

        That is announced before it happens, who takes over behind it. Should nobody, all stays as
        it was, after 5 seconds.
        """
        self._knowledge.doubted = (address, time.monotonic() + _LONGEST_DOUBT)

    def _is_outlived(self) -> bool:
        """Forget what most Sentinels have been contradicting for too long to be late.

        Those that are set up anew count their epochs from 0.
        """
        if self._outdated <= len(self.sentinels) // 2:
            return False
        since, now = self._knowledge.outdated_since, time.monotonic()
        if since is None:
            self._knowledge.outdated_since = now
        elif now - since > _LONGEST_LAG:
            self._knowledge.addresses = {0: None}
            self._knowledge.outdated_since = None
            return True
        return False
