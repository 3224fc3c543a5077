"""Put our client, at our defaults, in the place of redis-py's.

The folder is on ``PYTHONPATH`` while a suite runs with our client. It is not part of the package
``tests``, since the suite's own tests are often a package of that name.
"""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from typing import Any

import redis
import redis.sentinel
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from swap_usage import SpanCounter, counted, used

with warnings.catch_warnings():
    # A suite that turns warnings into errors means its own, not those of what we import.
    warnings.simplefilter("ignore")
    from pyramid_baseplate_redis import (
        BlockingConnectionPool,
        MonitoredRedisConnection,
        MonitoredRedisPipeline,
    )
    from pyramid_baseplate_redis.client import client
    from pyramid_baseplate_redis.pool.direct.connection import DirectConnection
    from pyramid_baseplate_redis.pool.factory import pool_kwargs
    from pyramid_baseplate_redis.settings.sources import load_client_settings

_PLAIN = redis.Redis
_PLAIN_SIGNATURE = inspect.signature(_PLAIN)
_PLAIN_PIPELINE_SIGNATURE = inspect.signature(redis.client.Pipeline)
_OF_THE_CLIENT = ("cache", "cache_config", "event_dispatcher", "single_connection_client")
# redis-py's default for these isn't None, so None says something: wait for ever.
_NONE_MEANS_NEVER = ("socket_connect_timeout", "socket_timeout")


class SwappedPool(BlockingConnectionPool):
    """Our pool with redis-py's constructor: what isn't given is as in a client of the settings."""

    def __init__(self, url: str | None = None, **keywords: Any) -> None:
        given = {
            key: value
            for key, value in keywords.items()
            if value is not None or key in _NONE_MEANS_NEVER
        }
        settings = load_client_settings({"redis.url": url or _url(given)}, "redis.")
        super().__init__(**pool_kwargs(settings.overridden_by(given)))

    def make_connection(self) -> Any:
        used["connections"] += 1
        return super().make_connection()

    @classmethod
    def from_url(cls, url: str, **keywords: Any) -> SwappedPool:
        # With redis-py, the URL wins over the arguments; with pool_from_config, the arguments do.
        in_url = redis.connection.parse_url(url)
        others = {
            key: value
            for key, value in keywords.items()
            if key not in in_url or key == "connection_class"
        }
        return cls(url=url, **others)


class SwappedPipeline(MonitoredRedisPipeline):
    """Our pipeline with redis-py's constructor, which projects derive their own from.

    Our client makes its pipelines of this class, too: a test that replaces
    ``redis.client.Pipeline.execute`` means the pipelines of the client.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args and isinstance(args[0], str):  # the name of the span: our client makes it
            super().__init__(*args, **kwargs)
            return
        given = _PLAIN_PIPELINE_SIGNATURE.bind(*args, **kwargs).arguments
        super().__init__("redis.pipeline", None, **given)


class SwappedRedis(MonitoredRedisConnection):
    """Our client with redis-py's constructor."""

    @functools.wraps(_PLAIN.__init__)  # so that autospec and inspect see redis-py's parameters
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        used["clients"] += 1
        given = _PLAIN_SIGNATURE.bind(*args, **kwargs).arguments
        own = {key: given.pop(key) for key in _OF_THE_CLIENT if key in given}
        pool = given.pop("connection_pool", None)
        has_own_pool = pool is None
        if pool is None:
            pool = SwappedPool(**_connection_keywords(given))
        super().__init__(connection_pool=pool, **own)
        self.auto_close_connection_pool = has_own_pool

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> SwappedRedis:
        single = kwargs.pop("single_connection_client", False)
        pool = SwappedPool.from_url(url, **kwargs)
        made = cls(connection_pool=pool, single_connection_client=single)
        made.auto_close_connection_pool = True
        return made


def swap() -> None:
    """Replace redis-py's names, and record spans as an application in production does.

    With ``SWAP_POOLS`` in the environment, the pools that a project makes itself are ours, too.
    """
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SpanCounter()))
    trace.set_tracer_provider(provider)
    for module in (redis, redis.client):
        module.Redis = module.StrictRedis = SwappedRedis  # type: ignore[misc]
    redis.sentinel.Redis = SwappedRedis  # type: ignore[misc]
    sentinel = redis.sentinel.Sentinel
    for method in (sentinel.master_for, sentinel.slave_for, sentinel.replica_for):
        method.__defaults__ = tuple(
            SwappedRedis if default is _PLAIN else default for default in method.__defaults__ or ()
        )
    redis.client.Pipeline = SwappedPipeline  # type: ignore[misc]
    client.MonitoredRedisPipeline = SwappedPipeline  # type: ignore[misc]
    for method in ("ask", "ask_all"):
        made = counted("direct requests", getattr(DirectConnection, method))
        setattr(DirectConnection, method, made)
    if os.environ.get("SWAP_POOLS"):
        for module in (redis, redis.client, redis.connection):
            module.ConnectionPool = SwappedPool  # type: ignore[misc]
        for module in (redis, redis.connection):
            module.BlockingConnectionPool = SwappedPool  # type: ignore[misc]


def _url(keywords: dict[str, Any]) -> str:
    """Return a URL for the defaults that depend on its scheme; the address is a keyword."""
    if "path" in keywords:
        return f"unix://{keywords['path']}"
    connection_class = keywords.get("connection_class", redis.Connection)
    is_tls = isinstance(connection_class, type) and issubclass(
        connection_class, redis.SSLConnection
    )
    return "rediss://localhost" if is_tls else "redis://localhost"


def _connection_keywords(given: dict[str, Any]) -> dict[str, Any]:
    """Translate arguments of ``redis.Redis`` to those of its pool, as its constructor does."""
    keywords = dict(given)
    keywords.pop("retry_on_timeout", None)  # which redis-py ignores, too
    path = keywords.pop("unix_socket_path", None)
    is_tls = keywords.pop("ssl", False)
    if path is not None:
        keywords |= {"path": path, "connection_class": redis.UnixDomainSocketConnection}
        for key in ("host", "port", "socket_keepalive", "socket_keepalive_options"):
            keywords.pop(key, None)
    elif is_tls:
        keywords["connection_class"] = redis.SSLConnection
        return keywords
    return {key: value for key, value in keywords.items() if not key.startswith("ssl_")}
