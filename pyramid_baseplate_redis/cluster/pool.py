"""What the clients of a Cluster share: redis-py's RedisCluster, with a pool of ours for each node.

redis-py asks a Cluster for its layout, and for its commands, when a RedisCluster is made. So there
is one for each process, made when it is first used; all clients of a process are bound to it.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.commands import READ_COMMANDS
from redis.crc import key_slot
from redis.maint_notifications import MaintNotificationsConfig
from redis.utils import check_protocol_version

from ..exceptions import ConfigurationError
from ..pool.blocking_pool import BlockingConnectionPool
from ..pool.connection_kwargs import check_keywords
from ..pool.factory import make_breaker, pool_keywords
from ..pool.fair_queue import PoolSlot
from ..settings.client import ClientSettings
from ..settings.sources import load_client_settings
from ..settings.url import CLUSTER_EXAMPLE
from ..telemetry.call_details import note_server, without_details
from ..telemetry.hot_keys import HotKeyTracker
from ..telemetry.stats import PoolStats
from .redis_cluster import ProcessCluster

if TYPE_CHECKING:
    from ..telemetry.metrics import PoolTimes
    from ..telemetry.operations import Observer

# RedisCluster's own keyword arguments; the others are those of the nodes' pools.
_OF_THE_CLUSTER = ("address_remap", "dynamic_startup_nodes", "policy_resolver",
                   "redis_connect_func", "reinitialize_steps")  # fmt: skip
_SHAPES = ("protocol", "legacy_responses")
# Further ones of RedisCluster's, and the setting that takes the place of each.
_SETTINGS = {
    **dict.fromkeys(("host", "port", "startup_nodes", "url"), "url"),
    **dict.fromkeys(("cluster_error_retry_attempts", "retry"), "retries"),
    "load_balancing_strategy": "load_balancing",
    "read_from_replicas": "read_from_replicas",
    "require_full_coverage": "require_full_coverage",
}
_MOST_COMMANDS = 512  # callers may make them up
_KEYS = {"keys"}


def cluster_pool_from_config(
    app_config: Mapping[str, Any], prefix: str = "rediscluster.", **kwargs: Any
) -> ClusterConnectionPool:
    """Make what the clients of a Cluster share, from the settings that start with ``prefix``.

    :param app_config: the application's settings.
    :param prefix: what the keys start with, dot included.
    :param kwargs: passed to :class:`ClusterConnectionPool`; they win over the settings.
    :raises ConfigurationError: if a setting is missing, malformed or names an unreadable file, or
        the URL isn't a ``redis+cluster://`` one.
    :raises TypeError: if redis-py doesn't know a keyword argument, or a setting takes its place.

    The name and the parameters are those of ``baseplate.clients.redis_cluster``.
    """
    return ClusterConnectionPool(load_client_settings(app_config, prefix), **kwargs)


def check_cluster(settings: ClientSettings) -> None:
    """Refuse a URL that doesn't lead to a Cluster.

    :raises ConfigurationError: which says how to write it.
    """
    if not settings.parsed_url.is_cluster:
        raise ConfigurationError(
            f"{settings.url_place}: leads to no Cluster; write it like {CLUSTER_EXAMPLE}"
        )


def _refuse_settings(prefix: str, kwargs: Mapping[str, Any]) -> None:
    """Refuse a keyword argument of RedisCluster's that has a setting here.

    :raises TypeError: which names the setting.
    """
    for key, setting in _SETTINGS.items():
        if kwargs.get(key) is None:
            continue
        reason = ""
        if setting == "retries":
            reason = "redis-py's retries would repeat what a node may have executed; "
        elif setting == "load_balancing":
            setting = f"read_from_replicas = true and {prefix}load_balancing"
        raise TypeError(f"{key}: {reason}write the setting {prefix}{setting} instead")


class ClusterConnectionPool:
    """The connections to the nodes of a Cluster, and what is known of the nodes.

    Nothing is opened before it is used. A forked process makes its own.

    :param client_settings: those of the client.
    :param kwargs: for the nodes' pools, see :class:`~.blocking_pool.BlockingConnectionPool`, or
        RedisCluster's own ``address_remap``, ``dynamic_startup_nodes``, ``reinitialize_steps``,
        ``policy_resolver`` and ``redis_connect_func``. Times are seconds.
    """

    def __init__(self, load_client_settings: ClientSettings, **kwargs: Any) -> None:
        check_cluster(load_client_settings)
        _refuse_settings(load_client_settings.prefix, kwargs)
        self._of_the_cluster = {key: kwargs.pop(key) for key in _OF_THE_CLUSTER if key in kwargs}
        self.hot_keys: HotKeyTracker | None = kwargs.pop("hot_keys", None)
        self._keywords, self.client_settings = pool_keywords(load_client_settings, kwargs)
        rates = (
            load_client_settings.track_key_reads_sample_rate,
            load_client_settings.track_key_writes_sample_rate,
        )
        #: Makes a client that keeps to itself and isn't monitored; its keyword arguments win.
        self.make_background_client: Callable[..., RedisCluster] = partial(
            _plain_cluster, load_client_settings, {**kwargs, **self._of_the_cluster}
        )
        if self.hot_keys is None and any(rates):
            tracker = HotKeyTracker(self.make_background_client, *rates, load_client_settings.name)
            self.hot_keys = tracker
        self.name = load_client_settings.name
        #: Told of the operations of its clients; see :class:`~.telemetry.operations.Observer`.
        self.observers: list[Observer] = []
        #: Where it is recorded how long connections are waited for and used; ``None`` nowhere.
        self.times: PoolTimes | None = None
        self.connection_kwargs = {"db": 0}  # what holds for every node
        # Redirections that were followed by all clients together: redis-py counts them to decide
        # when to ask for the whole layout.
        self.reinitialize_counter = 0
        self._direct: dict[Any, bool] = {}  # by command
        self._with_key_first: dict[Any, bool] = {}
        self._pid = 0
        self._made: ProcessCluster | None = None
        self._locks: dict[int, threading.RLock] = {}
        self._parents: list[ProcessCluster] = []
        check_keywords(_NodePool, self._keywords, type(self).__name__)
        self._make_node_pool("localhost", 0)  # finds what else is wrong with them

    @property
    def max_connections(self) -> int:
        """The most connections to each node."""
        most: int = self._keywords["max_connections"]
        return most

    @property
    def pools(self) -> list[BlockingConnectionPool]:
        """The pools of the nodes that this process knows."""
        made = self._made if self._pid == os.getpid() else None
        nodes = made.get_nodes() if made is not None else []
        return [node.redis_connection.connection_pool for node in nodes if node.redis_connection]

    @property
    def stats(self) -> PoolStats:
        """What the nodes' pools are doing, taken together."""
        each = [pool.stats for pool in self.pools]
        names = PoolStats.__dataclass_fields__
        return PoolStats(**{name: sum(getattr(one, name) for one in each) for name in names})

    def __repr__(self) -> str:
        """Without the address where the URL isn't to be shown."""
        url = self.client_settings.url
        return f"<{type(self).__module__}.{type(self).__name__}({self.name}, url={url!r})>"

    def cluster(self) -> RedisCluster:
        """redis-py's RedisCluster of this process, made if there is none.

        :raises redis.exceptions.RedisClusterException: if no node could be asked.
        """
        pid = os.getpid()
        if self._made is not None and self._pid == pid:
            return self._made
        # One for each process: a parent's may be held for ever by a thread that isn't here.
        with self._locks.setdefault(pid, threading.RLock()):
            if self._made is not None:
                if self._pid == pid:
                    return self._made
                # Its end would wait for its locks, too.
                self._parents.append(self._made)
            made = without_details(ProcessCluster)(self.cluster_keywords())
            self._made, self._pid = made, pid
        return made

    def is_direct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a command has one key, its first argument, and goes to that key's primary."""
        if not isinstance(args[0], str):
            return False
        known = self._direct.get(args[0])
        if known is None:
            known = self._is_direct(args[0])
            if len(self._direct) < _MOST_COMMANDS:
                self._direct[args[0]] = known
        # redis-py's methods give the keys of what reads, for its cache.
        return known and len(args) > 1 and (not kwargs or kwargs.keys() == _KEYS)

    def _is_direct(self, name: str) -> bool:
        if not self._has_key_first(name) or name in self.cluster().result_callbacks:
            return False
        return bool(self.cluster().commands_parser.commands[name.lower()]["last_key_pos"] == 1)

    def primaries_of(self, commands: Sequence[Any]) -> list[str] | None:
        """The names of the nodes that commands go to; ``None`` if one goes elsewhere than its key.

        :param commands: redis-py's, of a pipeline.
        """
        cluster = self.cluster()
        encode, node_of = cluster.encoder.encode, cluster.nodes_manager.get_node_from_slot
        with_key_first = self._with_key_first
        slots: dict[int, str] = {}
        primaries = []
        for command in commands:
            args = command.args
            if len(args) < 2 or "target_nodes" in command.options:
                return None
            name, key = args[0], args[1]
            if not (with_key_first.get(name) or self._has_key_first(name)):
                return None
            slot = key_slot(encode(key))
            primary = slots.get(slot)
            if primary is None:
                primary = slots[slot] = node_of(slot).name
            primaries.append(primary)
        return primaries

    def _has_key_first(self, name: Any) -> bool:
        """Whether a command goes to the primary that has its first argument, a key."""
        if not isinstance(name, str):
            return False
        known = self._with_key_first.get(name)
        if known is None:
            known = self._finds_key_first(name)
            if len(self._with_key_first) < _MOST_COMMANDS:
                self._with_key_first[name] = known
        return known

    def _finds_key_first(self, name: str) -> bool:
        cluster = self.cluster()
        if self.client_settings.read_from_replicas and name.upper() in READ_COMMANDS:
            return False
        command = cluster.commands_parser.commands.get(name.lower())
        return (
            command is not None
            and command["first_key_pos"] == 1
            and not {"movablekeys", "pubsub"}.intersection(command["flags"])
            and not command.get("subcommands")
            and name.upper() not in cluster.command_flags
            and not cluster._policy_resolver.resolve(name.lower())
        )

    @property
    def is_made(self) -> bool:
        """Whether this process has its RedisCluster."""
        return self._made is not None and self._pid == os.getpid()

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the idle connections to all nodes, and those in use too unless told not to."""
        for pool in self.pools:
            pool.disconnect(inuse_connections)

    def cluster_keywords(self) -> dict[str, Any]:
        """What RedisCluster is made with."""
        settings = self.client_settings
        (host, port), *others = settings.parsed_url.hosts
        balancing = LoadBalancingStrategy(settings.load_balancing)
        # RESP2 has no maintenance notifications, and before redis-py 8.1 it is an error to
        # configure them there, even if that turns them off.
        resp3 = check_protocol_version(self._keywords.get("protocol"), 3)
        no_notifications = MaintNotificationsConfig(enabled=False) if resp3 else None
        return {
            # The one way to have nodes with pools of another class. What else it says is ours.
            "url": f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}",
            "startup_nodes": [ClusterNode(*other) for other in others],
            "connection_pool_class": self._node_pool,
            "load_balancing_strategy": balancing if settings.read_from_replicas else None,
            "require_full_coverage": settings.require_full_coverage,
            "decode_responses": self._keywords["decode_responses"],
            "socket_timeout": self._keywords["socket_timeout"],
            "maint_notifications_config": no_notifications,
            # redis-py chooses its response callbacks by these.
            **{key: self._keywords[key] for key in _SHAPES if key in self._keywords},
            **self._of_the_cluster,
        }

    def _node_pool(self, **keywords: Any) -> BlockingConnectionPool:
        """Called by redis-py for each node."""
        connect: dict[str, Any] = {}
        if self.client_settings.read_from_replicas or "redis_connect_func" in self._of_the_cluster:
            connect["redis_connect_func"] = keywords["redis_connect_func"]
        return self._make_node_pool(keywords["host"], keywords["port"], **connect)

    def _make_node_pool(self, host: str, port: int, **keywords: Any) -> BlockingConnectionPool:
        breaker = make_breaker(self.client_settings, f"{host}:{port}")
        own = {**keywords, "host": host, "port": port, "breaker": breaker}
        made = _NodePool(**{**self._keywords, **own})
        made.times = self.times
        return made


def _plain_cluster(
    settings: ClientSettings, kwargs: Mapping[str, Any], **overrides: Any
) -> RedisCluster:
    """For the background: it takes no connection that a request needs."""
    settings = dataclasses.replace(
        settings,
        max_connections=1,
        retries=0,
        breaker_failures=0,
        leak_warning=timedelta(0),
        track_key_reads_sample_rate=0.0,
        track_key_writes_sample_rate=0.0,
        read_from_replicas=False,
        decode_responses=False,
    )
    overridden = {"max_connections", "leak_warning", "decode_responses"}
    kept = {key: value for key, value in kwargs.items() if key not in overridden}
    return ClusterConnectionPool(settings, **{**kept, **overrides}).cluster()


class _NodePool(BlockingConnectionPool):
    """The pool of one node."""

    def make_connection(self) -> Any:
        made = super().make_connection()
        made.is_node = True
        return made

    def _make_ready(self, connection: Any, slot: PoolSlot) -> None:
        if not connection.is_connected:  # otherwise it notes that itself when it sends
            note_server(connection.host, connection.port)
        super()._make_ready(connection, slot)
