"""Discovery: ask the Sentinels for the primary, and trust the newest configuration epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SlaveNotFoundError,
)

from ...runtime.deadline import DISCOVERING, as_phase

Address = tuple[str, int]

_LONGEST_DISTRUST = 5.0  # seconds; Sentinels check each second whether a promotion is complete
_LONGEST_LAG = 10.0  # seconds; Sentinels inform each other every 2 seconds
_REFUSED = redis.AuthenticationError.__name__


class _NoAnswerError(redis.ConnectionError):
    """A Sentinel gave no answer. Its repr() is the reason, for redis-py's messages."""

    __repr__ = redis.ConnectionError.__str__


class SentinelClient(redis.Redis):
    """A client of one Sentinel."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the Sentinel; it is part of the call that needs a server's address."""
        with as_phase(DISCOVERING):
            return super().execute_command(*args, **options)

    def sentinel_masters(self) -> Any:
        """Return the state of each primary that the Sentinel watches, by name.

        :raises redis.ConnectionError: it gave no answer; redis-py then asks the next Sentinel.
        """
        try:
            return super().sentinel_masters()
        except redis.RedisError as error:  # also if it isn't a Sentinel or denies the command
            raise self._no_answer(error) from error

    def sentinel_slaves(self, service_name: str) -> Any:
        """Return the states of a primary's replicas.

        :raises redis.ConnectionError: the Sentinel gave no answer, or refuses the password.
        :raises redis.ResponseError: it isn't a Sentinel, denies the command or doesn't know the
            primary.
        """
        try:
            return super().sentinel_slaves(service_name)
        except redis.AuthenticationError:
            raise
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise self._no_answer(error) from error

    def _no_answer(self, error: redis.RedisError) -> _NoAnswerError:
        pool: Any = self.connection_pool
        text = str(error).removeprefix(f"{pool.name}: ")
        return _NoAnswerError(f"{type(error).__name__}: {text}")

    def __repr__(self) -> str:
        """Return the address, for redis-py's messages."""
        keywords = self.connection_pool.connection_kwargs
        return f"{keywords['host']}:{keywords['port']}"


class _FailoverState:
    """The state of failovers, shared by all threads: each change is one atomic operation."""

    def __init__(self) -> None:
        # The primary's address by configuration epoch; ``None`` if none was announced for it.
        self.addresses: dict[int, Address | None] = {0: None}
        # A primary that is about to be demoted, and the time until which it isn't trusted.
        self.distrusted: tuple[Address | None, float] = (None, 0.0)
        # The time since which most Sentinels have reported only older epochs.
        self.outdated_since: float | None = None

    @property
    def newest(self) -> tuple[int, Address | None]:
        addresses = self.addresses
        epoch = max(addresses)
        return epoch, addresses[epoch]

    def distrusts(self, address: Address) -> bool:
        distrusted, until = self.distrusted
        return distrusted == address and time.monotonic() < until


class SentinelManager(Sentinel):
    """redis-py's :class:`~redis.sentinel.Sentinel`, which remembers the newest failover.

    Not all Sentinels learn of a failover at once; some are 2 seconds late. Each reports its
    configuration epoch with the address, and an epoch older than the newest one is ignored.

    :param sentinels: clients of the Sentinels.
    :param min_other_sentinels: the number of other Sentinels that a Sentinel must see.
    """

    def __init__(self, sentinels: Sequence[redis.Redis], min_other_sentinels: int = 0) -> None:
        super().__init__([], min_other_sentinels=min_other_sentinels, sentinel_kwargs={})
        self.sentinels = list(sentinels)
        self._failover_state = _FailoverState()
        # The state of one discovery, which works on a copy of the manager: the server that was
        # promoted but isn't reported yet, and the number of Sentinels with an older epoch.
        self._promoted: Address | None = None
        self._outdated = 0

    @property
    def addresses(self) -> str:
        """Return the addresses of the Sentinels, for messages."""
        keywords = [client.connection_pool.connection_kwargs for client in self.sentinels]
        return ", ".join(sorted(f"{each['host']}:{each['port']}" for each in keywords))

    def discover_master(self, service_name: str) -> Address:
        """Ask the Sentinels for the primary's address.

        :param service_name: the name by which the Sentinels know the primary.
        :raises redis.sentinel.MasterNotFoundError: no Sentinel reports a primary to trust.
        :raises redis.AuthenticationError: all Sentinels refuse the user name and the password.
        """
        # Work on a copy: redis-py reorders its list of Sentinels without a lock, and may lose one.
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
                # They would refuse it the next time, too.
                raise redis.AuthenticationError(*error.args) from None
            raise
        self.sentinels = own.sentinels
        self._failover_state.outdated_since = None
        return host, port

    def discover_slaves(self, service_name: str) -> list[Address]:
        """Ask the Sentinels for the addresses of the replicas that are up.

        A Sentinel that answers is asked first the next time.

        :param service_name: the name by which the Sentinels know the primary.
        :raises redis.sentinel.SlaveNotFoundError: no Sentinel could be reached. redis-py would
            then ask all of them once more, for the primary, and take twice as long.
        """
        asked = [*self.sentinels]
        answered: list[redis.Redis] = []
        reasons: list[str] = []
        replicas: list[Address] = []
        for sentinel in asked:
            try:
                replicas = self.filter_slaves(sentinel.sentinel_slaves(service_name))
            except (redis.ResponseError, redis.AuthenticationError):
                continue
            except (redis.ConnectionError, redis.TimeoutError) as error:
                reasons.append(f"{sentinel} - {error!r}")
                continue
            answered.append(sentinel)
            if replicas:
                break
        if len(reasons) == len(asked):
            raise SlaveNotFoundError(f"No slave found for {service_name!r} : {', '.join(reasons)}")
        # The sort is stable.
        self.sentinels = sorted(asked, key=lambda sentinel: sentinel not in answered)
        return replicas

    def check_master_state(self, state: dict[str, Any], service_name: str) -> bool:
        """Return whether to trust a Sentinel's report of the primary; redis-py calls this."""
        # There are four cases:
        #
        # 1. The report's epoch is older than the newest one: the Sentinel is late. Ignore it.
        # 2. It is the newest, but another address was announced for it, and the failover is in
        #    progress: the Sentinel reports the old address until the other replicas follow. The
        #    announced one is used if no Sentinel reports it.
        # 3. The address is about to be demoted: don't trust it.
        # 4. Otherwise redis-py's own checks decide.
        epoch: int = state.get("config-epoch", 0)
        self._failover_state.addresses.setdefault(epoch, None)
        newest, announced = self._failover_state.newest
        if epoch < newest:
            self._outdated += 1
            return False
        address = (state["ip"], state["port"])
        if announced not in (None, address) and "failover_in_progress" in state["flags"]:
            self._promoted = announced
        return self.believes(address) and bool(super().check_master_state(state, service_name))

    def believes(self, address: Address) -> bool:
        """Return whether ``address`` agrees with the latest failover announcement."""
        _, announced = self._failover_state.newest
        return announced in (None, address) and not self._failover_state.distrusts(address)

    def learn(self, epoch: int, address: Address) -> bool:
        """Remember the announcement of a new primary; return whether it was news.

        :param epoch: the configuration epoch. An older one than the newest is not news.
        :param address: the new primary's address.
        """
        newest, announced = self._failover_state.newest
        if epoch < newest or (epoch == newest and announced is not None):
            return False
        self._failover_state.addresses[epoch] = address
        self._failover_state.distrusted = (None, 0.0)
        self._failover_state.outdated_since = None
        return True

    def distrust(self, address: Address) -> None:
        """Stop trusting a primary that is about to be demoted: writes to it may be lost.

        The demotion is announced first, the new primary later. If none is announced within 5
        seconds, the old one is trusted again.
        """
        self._failover_state.distrusted = (address, time.monotonic() + _LONGEST_DISTRUST)

    def _is_outlived(self) -> bool:
        """Drop the epochs once most Sentinels have contradicted them for longer than it takes
        to agree.

        Sentinels that are set up anew count their epochs from 0.

        :returns: whether the epochs were dropped.
        """
        if self._outdated <= len(self.sentinels) // 2:
            return False
        since, now = self._failover_state.outdated_since, time.monotonic()
        if since is None:
            self._failover_state.outdated_since = now
        elif now - since > _LONGEST_LAG:
            self._failover_state.addresses = {0: None}
            self._failover_state.outdated_since = None
            return True
        return False
