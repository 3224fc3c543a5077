"""An external server for tests, and which of its databases stands in for which real one."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Mapping
from typing import Any

import redis
from redis.connection import AbstractConnection

from ..exceptions import ConfigurationError
from ..pool.factory import plain_client
from ..settings.client import SETTINGS, ClientSettings
from ..settings.sources import load_client_settings
from ..settings.tls import check_files
from ..settings.url import RedisURL

logger = logging.getLogger(__package__)

PREFIX = "baseplate_redis.testing."
CLIENT_KEY = f"{PREFIX}client"
URL_KEY = f"{PREFIX}url"
# Keyword arguments of any redis-py connection; the application's own values apply.
_OF_EVERY_CONNECTION = {*inspect.signature(AbstractConnection.__init__).parameters} - {
    "username", "password", "credential_provider",
}  # fmt: skip
_CREDENTIALS = ("username", "password", "password_file")


def plain_stand_in_client(settings: ClientSettings, **kwargs: Any) -> redis.Redis:
    """Return a client of redis-py for the same server and database, without spans.

    :param settings: those of the stand-in of an application's client.
    :param kwargs: for its pool.
    """
    if settings.parsed_url.is_cluster:  # of one node
        settings = dataclasses.replace(settings, parsed_url=RedisURL("embedded"))
    # A test may keep a connection, for example to subscribe, and go on with the same client.
    kwargs.setdefault("max_connections", settings.max_connections)
    return plain_client(settings, **kwargs)


def without_server(settings: ClientSettings, **changes: Any) -> ClientSettings:
    """Return a client's settings without those that are about its real server.

    :param changes: values of fields.
    """
    defaults: dict[str, Any] = {
        name: item.default
        for name, item in SETTINGS.items()
        if item.metadata["only"]
        or name in ("url_env", "url_file", *_CREDENTIALS)
        # The tracker of hot keys would write keys in the background at any time.
        or name in ("track_key_reads_sample_rate", "track_key_writes_sample_rate")
    }
    return dataclasses.replace(settings, **{**defaults, "in_url": frozenset(), **changes})


class ExternalServer:
    """A server that the test configuration names.

    Each database of the application's servers gets one of its databases, from the configured
    number upwards.

    :param settings: how to connect to it.
    :param key: the setting that names it, for messages.
    """

    def __init__(self, settings: ClientSettings, key: str) -> None:
        self.settings = settings
        self.key = key
        self.databases: dict[tuple[str, int], int] = {}
        self.is_gone = False

    def stand_in_for(self, name: str, app: ClientSettings, db: int) -> ClientSettings:
        """Return the settings of the stand-in for a client of database ``db`` of a server.

        :param name: the server's name.
        :param app: the client's real settings.
        :raises ConfigurationError: the client is that of a Cluster.
        """
        if app.parsed_url.is_cluster:
            raise ConfigurationError(
                f"{self.key}: {app.name} is a Cluster's client, for which one server can't stand "
                "in; leave the setting out, and an embedded Cluster does"
            )
        number = self.settings.db + len(self.databases)
        number = self.databases.setdefault((name, db), number)
        theirs = {
            key: getattr(self.settings, key)
            for key, item in SETTINGS.items()
            if item.metadata["only"] == "TLS" or key in _CREDENTIALS
        }
        url = dataclasses.replace(self.settings.parsed_url, db=number)
        keywords = {**self.settings.keywords, "db": number}
        return without_server(app, parsed_url=url, keywords=keywords, **theirs)

    def flush(self) -> None:
        """Empty the databases that stand in for others, and no others."""
        for number in sorted(set(self.databases.values())):
            with plain_stand_in_client(self.settings, db=number) as client:
                client.flushdb()


_servers: dict[tuple[str, ...], ExternalServer] = {}  # two applications see the same databases


def flush_external_servers() -> None:
    """Empty the databases that this process used, on all external servers.

    A server may end with the tests that it was passed for. One that cannot be reached is reported
    once, in a warning. A test that still uses it fails by itself.
    """
    for server in list(_servers.values()):
        try:
            server.flush()
            server.is_gone = False
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if not server.is_gone:
                logger.warning("%s: not emptied: %s", server.key, error)
            server.is_gone = True


def external_server(settings: Mapping[str, Any]) -> ExternalServer | None:
    """Return the server for tests that the settings name, or ``None``.

    :param settings: the application's.
    :raises ConfigurationError: they name several, or are malformed.
    """
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
    return _servers.setdefault(key, ExternalServer(server, server.url_key))


def _server_of_client(client: Any) -> ExternalServer:
    pool = getattr(client, "connection_pool", client)
    keywords = getattr(pool, "connection_kwargs", None)
    connection_class = getattr(pool, "connection_class", None)
    if keywords is None or connection_class is None or "connection_pool" in keywords:
        # Show only the type: the value may be a URL with a password.
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
    address["connection_class"] = connection_class
    settings = ClientSettings(prefix=PREFIX, parsed_url=url, keywords=address)
    key = ("client", url.scheme, url.host, str(url.port), url.path, str(db))
    return _servers.setdefault(key, ExternalServer(settings, CLIENT_KEY))
