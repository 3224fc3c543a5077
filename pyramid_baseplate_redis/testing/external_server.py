"""A server that was given for tests: which one, and which of its databases stands in for which."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.connection import AbstractConnection

from ..exceptions import ConfigurationError
from ..pool.factory import plain_client
from ..settings.client import ClientSettings
from ..settings.sources import load_client_settings
from ..settings.tls import check_files
from ..settings.url import RedisURL

logger = logging.getLogger(__package__)

PREFIX = "baseplate_redis.testing."
CLIENT_KEY = f"{PREFIX}client"
URL_KEY = f"{PREFIX}url"
# What every connection of redis-py has, wherever it goes: these are the application's.
_OF_EVERY_CONNECTION = {*inspect.signature(AbstractConnection.__init__).parameters} - {
    "username", "password", "credential_provider",
}  # fmt: skip


@dataclass(frozen=True)
class StandInClient:
    """A client of an application that is being tested.

    :param settings: what its client is made from.
    :param address: keyword arguments of its pool that win over them.
    """

    settings: ClientSettings
    address: Mapping[str, Any] = field(repr=False)  # may have a password

    def plain_client(self, **kwargs: Any) -> redis.Redis:
        """Return a client of redis-py for the same server and database, without spans."""
        settings = self.settings.overridden_by(self.address)
        if settings.parsed_url.is_cluster:  # of one node
            settings = dataclasses.replace(settings, parsed_url=RedisURL("embedded"))
        # A test may keep a connection, as for a subscription, and go on with the same client.
        kwargs.setdefault("max_connections", settings.max_connections)
        return plain_client(settings, **kwargs)


def moved(settings: ClientSettings, **changes: Any) -> ClientSettings:
    """A client's settings without what is about its real server."""
    changed: dict[str, Any] = {
        item.name: item.default
        for item in dataclasses.fields(settings)
        if item.metadata.get("only")
        or item.name in ("url_env", "url_file", "username", "password", "password_file")
        # It would write keys in the background, whenever it likes.
        or item.name in ("track_key_reads_sample_rate", "track_key_writes_sample_rate")
    }
    return dataclasses.replace(settings, **{**changed, "in_url": frozenset(), **changes})


class ExternalServer:
    """A server that was given for tests.

    Each database that an application has is one of its own here, from the one named upwards.
    """

    def __init__(self, settings: ClientSettings, address: Mapping[str, Any], key: str) -> None:
        self.settings = settings
        self.address = address
        self.key = key
        self.databases: dict[tuple[str, int], int] = {}
        self.is_gone = False

    def swapped(self, name: str, is_cluster: bool, app: ClientSettings, db: int) -> StandInClient:
        """The client that was one of database ``db`` of the server ``name``."""
        if is_cluster:
            raise ConfigurationError(
                f"{self.key}: {app.name} is a Cluster's client, for which one server can't stand "
                "in; leave the setting out, and an embedded Cluster does"
            )
        number = self.settings.db + len(self.databases)
        number = self.databases.setdefault((name, db), number)
        address = {**self.address, "db": number}
        theirs = {
            item.name: getattr(self.settings, item.name)
            for item in dataclasses.fields(self.settings)
            if item.metadata.get("only") == "TLS"
            or item.name in ("username", "password", "password_file")
        }
        url = dataclasses.replace(self.settings.parsed_url, db=number)
        return StandInClient(moved(app, parsed_url=url, **theirs), address)

    def flush(self) -> None:
        """Empty the databases that stand in for others, and no others."""
        for number in sorted(set(self.databases.values())):
            with StandInClient(self.settings, self.address).plain_client(db=number) as client:
                client.flushdb()


_given: dict[tuple[str, ...], ExternalServer] = {}  # two applications see the same databases


def flush_given() -> None:
    """Empty what was used of all servers that were given to this process.

    A server may end with the tests that it was passed for. One that cannot be reached is reported
    once, in a warning. A test that still uses it fails by itself.
    """
    for server in list(_given.values()):
        try:
            server.flush()
            server.is_gone = False
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if not server.is_gone:
                logger.warning("%s: not emptied: %s", server.key, error)
            server.is_gone = True


def given_server(settings: Mapping[str, Any]) -> ExternalServer | None:
    """The server for tests that the settings name, or ``None``."""
    given = {key: value for key, value in settings.items() if str(key).startswith(PREFIX)}
    client = given.pop(CLIENT_KEY, None)
    if client is not None:
        if given:
            raise ConfigurationError(
                f"{CLIENT_KEY}: there is {sorted(given)[0]} as well; name one server for tests"
            )
        return _server_of_client(client)
    if not given:
        return None
    server = load_client_settings(given, PREFIX)
    check_files(server)
    url = server.parsed_url
    if url.is_sentinel or url.is_cluster:
        raise ConfigurationError(
            f"{server.url_key}: names several servers. Name one, such as redis://localhost:6379"
        )
    key = (url.scheme, url.host, str(url.port), url.path, str(server.db))
    return _given.setdefault(key, ExternalServer(server, {}, server.url_key))


def _server_of_client(client: Any) -> ExternalServer:
    pool = getattr(client, "connection_pool", client)
    keywords = getattr(pool, "connection_kwargs", None)
    connection_class = getattr(pool, "connection_class", None)
    if keywords is None or connection_class is None or "connection_pool" in keywords:
        # Its type alone: it may be a URL, with a password.
        raise ConfigurationError(
            f"{CLIENT_KEY}: {type(client).__name__} is not a redis.Redis and not a pool of "
            f"connections to one server; a URL is written in {URL_KEY}"
        )
    address = {key: value for key, value in keywords.items() if key not in _OF_EVERY_CONNECTION}
    db = int(keywords.get("db") or 0)
    if "directory" in keywords:
        url = RedisURL("embedded", path=keywords["directory"] or "", db=db)
    elif "path" in keywords:
        url = RedisURL("unix", path=keywords["path"], db=db)
    else:
        host, port = keywords.get("host", "localhost"), keywords.get("port", 6379)
        url = RedisURL("redis", host, port, db=db)
    settings = ClientSettings(prefix=PREFIX, parsed_url=url)
    address["connection_class"] = connection_class
    key = ("client", url.scheme, url.host, str(url.port), url.path, str(db))
    return _given.setdefault(key, ExternalServer(settings, address, CLIENT_KEY))
