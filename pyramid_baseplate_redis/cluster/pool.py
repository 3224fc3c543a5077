"""The pool of a Cluster's clients: one RedisCluster per process, with one of our pools per node.

A RedisCluster asks the Cluster for its layout and its commands when it is created. Therefore each
process creates only one, at first use, and all clients of the process share its state.
"""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.commands import READ_COMMANDS
from redis.maint_notifications import MaintNotificationsConfig
from redis.utils import check_protocol_version

from ..exceptions import ConfigurationError
from ..pool.blocking_pool import BlockingConnectionPool
from ..pool.connection_kwargs import check_keywords
from ..pool.connections.slot import PoolSlot
from ..pool.factory import background_settings, make_breaker, pool_kwargs
from ..settings.client import ClientSettings
from ..settings.sources import load_client_settings
from ..settings.url import CLUSTER_EXAMPLE
from ..telemetry.call_details import note_server, without_details
from ..telemetry.hot_keys.tracker import HotKeyTracker
from ..telemetry.stats import PoolStats
from .layout import LayoutLookup, node_seconds
from .redis_cluster import ProcessCluster, primary_of

if TYPE_CHECKING:
    from ..telemetry.metrics import PoolListener
    from ..telemetry.operations import Observer

# Keyword arguments that go to RedisCluster; all others go to the nodes' pools.
_OF_THE_CLUSTER = ("address_remap", "dynamic_startup_nodes", "policy_resolver",
                   "redis_connect_func", "reinitialize_steps")  # fmt: skip
_SHAPES = ("protocol", "legacy_responses")
# Keyword arguments of RedisCluster that are refused, and the setting that replaces each.
_SETTINGS = {
    **dict.fromkeys(("host", "port", "startup_nodes", "url"), "url"),
    **dict.fromkeys(("cluster_error_retry_attempts", "retry"), "retries"),
    "load_balancing_strategy": "load_balancing",
    "read_from_replicas": "read_from_replicas",
    "require_full_coverage": "require_full_coverage",
}
_MOST_COMMANDS = 512  # kept in a cache; callers can invent any number of commands
_KEYS = {"keys"}


def cluster_pool_from_config(
    app_config: Mapping[str, Any], prefix: str = "rediscluster.", **kwargs: Any
) -> ClusterConnectionPool:
    """Make the pool of a Cluster's clients from the settings that start with ``prefix``.

    :param app_config: the application's settings.
    :param prefix: the start of the settings' keys, including the dot.
    :param kwargs: passed to :class:`ClusterConnectionPool`; they override the settings.
    :raises ConfigurationError: a setting is missing, malformed or names an unreadable file, or the
        URL is not a ``redis+cluster://`` one.
    :raises TypeError: redis-py does not know a keyword argument, or a setting replaces it.

    The name and the parameters are those of ``baseplate.clients.redis_cluster``.
    """
    return ClusterConnectionPool(load_client_settings(app_config, prefix), **kwargs)


def check_cluster(settings: ClientSettings) -> None:
    """Check that the URL is that of a Cluster.

    :raises ConfigurationError: it is not. The message shows the right form.
    """
    if not settings.parsed_url.is_cluster:
        raise ConfigurationError(
            f"{settings.url_place}: is not a Cluster URL. Write it like {CLUSTER_EXAMPLE}"
        )


def _refuse_settings(prefix: str, kwargs: Mapping[str, Any]) -> None:
    """Check that no keyword argument is given that a setting replaces.

    :raises TypeError: one is given. The message names the setting.
    """
    for key, setting in _SETTINGS.items():
        if kwargs.get(key) is None:
            continue
        reason = ""
        if setting == "retries":
            reason = "redis-py would repeat commands that a node may have executed; "
        elif setting == "load_balancing":
            setting = f"read_from_replicas = true and {prefix}load_balancing"
        raise TypeError(f"{key}: {reason}use the setting {prefix}{setting} instead")


class ClusterConnectionPool:
    """The connections to a Cluster's nodes, and the layout: which node has which slots.

    Connections are opened at first use. A forked process opens its own.

    :param client_settings: the client's settings.
    :param kwargs: passed to the nodes' pools, see
        :class:`~.pool.blocking_pool.BlockingConnectionPool`; or RedisCluster's own
        ``address_remap``, ``dynamic_startup_nodes``, ``reinitialize_steps``, ``policy_resolver``
        and ``redis_connect_func``. Times are in seconds.
    :raises ConfigurationError: the URL is not that of a Cluster, or a setting is malformed.
    :raises TypeError: redis-py does not know a keyword argument, or a setting replaces it.
    """

    def __init__(self, client_settings: ClientSettings, **kwargs: Any) -> None:
        check_cluster(client_settings)
        given = client_settings.overridden_by(kwargs)
        _refuse_settings(given.prefix, given.keywords)
        keywords = dict(given.keywords)
        self._of_the_cluster = {
            key: keywords.pop(key) for key in _OF_THE_CLUSTER if key in keywords
        }
        self.hot_keys: HotKeyTracker | None = keywords.pop("hot_keys", None)
        self.client_settings = dataclasses.replace(given, keywords=keywords)
        self._keywords = pool_kwargs(self.client_settings)
        rates = given.track_key_reads_sample_rate, given.track_key_writes_sample_rate
        #: Makes an unmonitored client with connections of its own. Keyword arguments override the
        #: settings.
        self.make_background_client: Callable[..., RedisCluster] = partial(_plain_cluster, given)
        if self.hot_keys is None and any(rates):
            tracker = HotKeyTracker(self.make_background_client, *rates, client_settings.name)
            self.hot_keys = tracker
        self.name = client_settings.name
        #: Notified of the clients' operations; see :class:`~.telemetry.operations.Observer`.
        self.observers: list[Observer] = []
        #: Notified of the events of all nodes' pools; see
        #: :class:`~.telemetry.metrics.PoolListener`.
        self.listeners: list[PoolListener] = []
        self.connection_kwargs = {"db": 0}  # the same for every node
        # The redirections of all clients together. redis-py counts them to decide when to refresh
        # the layout.
        self.reinitialize_counter = 0
        self._direct: dict[Any, bool] = {}  # by command
        self._with_key_first: dict[Any, bool] = {}
        self._pid = 0
        self._made: ProcessCluster | None = None
        times = self._keywords["socket_connect_timeout"], self._keywords["socket_timeout"]
        # To ask all nodes in vain takes no longer than to connect to one of them and get a reply.
        self._layout = LayoutLookup(
            None if None in times else sum(times), make_breaker(given, "the Cluster")
        )
        self._parents: list[ProcessCluster] = []
        # By process, host and port: a forked process makes its own.
        self._node_pools: dict[tuple[int, str, int], weakref.ref[BlockingConnectionPool]] = {}
        check_keywords(_NodePool, self._keywords, type(self).__name__)
        self._make_node_pool("localhost", 0)  # raises early if a keyword is wrong

    @property
    def max_connections(self) -> int:
        """The maximal number of connections to each node."""
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
        """The sums of the statistics of the nodes' pools."""
        each = [pool.stats for pool in self.pools]
        names = PoolStats.__dataclass_fields__
        return PoolStats(**{name: sum(getattr(one, name) for one in each) for name in names})

    def __repr__(self) -> str:
        """Show the name and the URL, which ``client_settings`` has without its secrets."""
        url = self.client_settings.url
        return f"<{type(self).__name__}({self.name}, url={url!r})>"

    def cluster(self) -> RedisCluster:
        """Return this process's RedisCluster, which is created at the first call.

        :raises redis.exceptions.RedisClusterException: no node can be reached.
        :raises CircuitOpenError: ``foo.breaker_failures`` look-ups have failed in a row.
        """
        while self._made is None or self._pid != os.getpid():
            # The look-up of another caller may be one that refreshes the parent's object.
            self._layout.run(self._make, len(self.client_settings.parsed_url.hosts))
        return self._made

    def _make(self) -> None:
        pid = os.getpid()
        if self._made is not None:
            if self._pid == pid:
                return
            # Keep the parent's object: its finalizer would wait for locks held in the parent.
            self._parents.append(self._made)
        made = without_details(ProcessCluster)(self.cluster_keywords(), self._layout)
        self._made, self._pid = made, pid

    def is_direct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether a command's first argument is its only key, whose primary executes it."""
        if not isinstance(args[0], str):
            return False
        known = self._direct.get(args[0])
        if known is None:
            known = self._knows_one_key(args[0])
        # redis-py's methods pass the keys of reading commands, for its cache.
        return known and len(args) > 1 and (not kwargs or kwargs.keys() == _KEYS)

    def has_one_key(self, args: Sequence[Any]) -> bool:
        """Return whether a pipeline's command has one key, its first argument.

        False if the application has chosen the nodes of commands by a ``policy_resolver``, which
        redis-py does not pass on to pipelines.
        """
        known = self._direct.get(args[0])
        if known is None:
            known = self._knows_one_key(args[0])
        return known and "policy_resolver" not in self._of_the_cluster

    def _knows_one_key(self, name: str) -> bool:
        known = self._is_direct(name)
        if len(self._direct) < _MOST_COMMANDS:
            self._direct[name] = known
        return known

    def _is_direct(self, name: str) -> bool:
        if not self._has_key_first(name) or name in self.cluster().result_callbacks:
            return False
        return bool(self.cluster().commands_parser.commands[name.lower()]["last_key_pos"] == 1)

    def primaries_of(self, commands: Sequence[Any]) -> list[ClusterNode] | None:
        """Return the nodes that execute commands, in the order of the commands.

        :param commands: redis-py's command objects of a pipeline.
        :returns: ``None`` if a command may go to another node than the primary of its first key.
        """
        cluster = self.cluster()
        manager = cluster.nodes_manager
        with_key_first = self._with_key_first
        slots: dict[int, ClusterNode] = {}
        primaries = []
        for command in commands:
            args = command.args
            if len(args) < 2 or "target_nodes" in command.options:
                return None
            name, key = args[0], args[1]
            if not (with_key_first.get(name) or self._has_key_first(name)):
                return None
            slot = cluster.keyslot(key)
            primary = slots.get(slot)
            if primary is None:
                primary = slots[slot] = primary_of(manager, slot)
            primaries.append(primary)
        return primaries

    def _has_key_first(self, name: Any) -> bool:
        """Return whether a command's first argument is a key, and its primary executes it."""
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
        """Return whether this process has created its RedisCluster."""
        return self._made is not None and self._pid == os.getpid()

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections to all nodes.

        :param inuse_connections: whether to close those in use as well as the idle ones.
        """
        for pool in self.pools:
            pool.disconnect(inuse_connections)

    def cluster_keywords(self) -> dict[str, Any]:
        """Return the keyword arguments for RedisCluster."""
        settings = self.client_settings
        (host, port), *others = settings.parsed_url.hosts
        balancing = LoadBalancingStrategy(settings.load_balancing)
        # RESP2 has no maintenance notifications. Before redis-py 8.1 it is an error to pass their
        # configuration with RESP2, even one that turns them off.
        resp3 = check_protocol_version(self._keywords.get("protocol"), 3)
        no_notifications = MaintNotificationsConfig(enabled=False) if resp3 else None
        return {
            # redis-py takes a pool class only together with a URL. User, password and TLS are not
            # in it: _node_pool() adds them.
            "url": f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}",
            "startup_nodes": [ClusterNode(*other) for other in others],
            "connection_pool_class": self._node_pool,
            "load_balancing_strategy": balancing if settings.read_from_replicas else None,
            "require_full_coverage": settings.require_full_coverage,
            "decode_responses": self._keywords["decode_responses"],
            "socket_timeout": self._keywords["socket_timeout"],
            "maint_notifications_config": no_notifications,
            # redis-py chooses the response callbacks by these.
            **{key: self._keywords[key] for key in _SHAPES if key in self._keywords},
            **self._of_the_cluster,
        }

    def _node_pool(self, **keywords: Any) -> BlockingConnectionPool:
        """Return a node's pool, which is made unless there is one; called by redis-py.

        redis-py makes a new object for a node that comes back, and two if two threads learn of a
        node at once. With a pool for each, there would be more than ``max_connections``.
        """
        made = None
        place = os.getpid(), keywords["host"], keywords["port"]
        while True:
            known = self._node_pools.get(place)
            pool = known() if known is not None else None
            if pool is not None:
                return pool
            if known is not None:
                self._node_pools.pop(place, None)
            if made is None:
                made = self._make_pool_of(keywords)
            self._node_pools.setdefault(place, weakref.ref(made))

    def _make_pool_of(self, keywords: dict[str, Any]) -> BlockingConnectionPool:
        connect: dict[str, Any] = {}
        if self.client_settings.read_from_replicas or "redis_connect_func" in self._of_the_cluster:
            connect["redis_connect_func"] = keywords["redis_connect_func"]
        return self._make_node_pool(keywords["host"], keywords["port"], **connect)

    def _make_node_pool(self, host: str, port: int, **keywords: Any) -> BlockingConnectionPool:
        breaker = make_breaker(self.client_settings, f"{host}:{port}")
        own = {**keywords, "host": host, "port": port, "breaker": breaker}
        made = _NodePool(**{**self._keywords, **own})
        made.listeners = self.listeners
        made.address_remap = self._of_the_cluster.get("address_remap")
        return made


def _plain_cluster(settings: ClientSettings, **overrides: Any) -> RedisCluster:
    """Make a client for background work, which takes no connections from requests."""
    return ClusterConnectionPool(background_settings(settings, overrides)).cluster()


class _NodePool(BlockingConnectionPool):
    """The pool of one node."""

    address_remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        seconds = node_seconds()
        if seconds is None:
            return super().get_connection()
        # A look-up of the layout has a connection of its own: it waits for no slot of the pool, and
        # its short timeouts say nothing about the node's health.
        made = self.make_connection()
        made.is_unpooled, made.breaker = True, None
        made.socket_connect_timeout = min(seconds, made.socket_connect_timeout or seconds)
        made.socket_timeout = min(seconds, made.socket_timeout or seconds)
        made.connect()
        return made

    def make_connection(self) -> Any:
        made = super().make_connection()
        made.is_node = True
        if self.address_remap is not None:
            made.address_remap = self.address_remap
        return made

    def _make_ready(self, connection: Any, slot: PoolSlot) -> None:
        # A connected one notes it when it sends. One that is direct is connected.
        if not (getattr(connection, "is_direct", False) or connection.is_connected):
            note_server(connection.host, connection.port)
        super()._make_ready(connection, slot)
