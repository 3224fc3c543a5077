"""A cache of dogpile.cache in Redis, on the client ``cache``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dogpile.cache import make_region, register_backend
from dogpile.cache.api import (
    NO_VALUE,
    BytesBackend,
    CacheMutex,
    CantDeserializeException,
    NoValueType,
)
from opentelemetry.trace import INVALID_SPAN
from pyramid.config import Configurator
from pyramid.events import ApplicationCreated
from pyramid.threadlocal import get_current_request
from redis.exceptions import RedisClusterException, RedisError
from redis.lock import Lock

from pyramid_baseplate_redis import MonitoredRedisConnection, ServerContext

FRESH = 60  # seconds after which a value is computed again
KEPT = 600  # seconds for which Redis keeps it; the old value is served meanwhile
UNAVAILABLE = (RedisError, RedisClusterException)


def serialize(value: Any) -> bytes:
    return json.dumps(value).encode()


def deserialize(stored: bytes) -> Any:
    try:
        return json.loads(stored)
    except ValueError as error:
        raise CantDeserializeException from error  # a miss


region = make_region(key_mangler="cache:{}".format, serializer=serialize, deserializer=deserialize)


def includeme(config: Configurator) -> None:
    """Connect the region as soon as the application has its clients."""
    config.add_subscriber(configure, ApplicationCreated)


def configure(event: ApplicationCreated) -> None:
    # For code outside a request, and for the locks.
    client = ServerContext(event.app.registry, INVALID_SPAN).cache
    region.configure(
        "myapp.redis",
        expiration_time=FRESH,
        arguments={"client": client},
        replace_existing_backend=True,
    )


class RefreshLock(CacheMutex):
    """Lets one caller compute a value. If Redis is down, every caller may."""

    def __init__(self, lock: Lock) -> None:
        self.lock = lock

    def acquire(self, wait: bool = True) -> bool:
        try:
            return bool(self.lock.acquire(blocking=wait))
        except UNAVAILABLE:
            return wait  # compute the value if there is no old one

    def release(self) -> None:
        with suppress(*UNAVAILABLE):  # such as LockError, if its time has run out
            self.lock.release()

    def locked(self) -> bool:
        return bool(self.lock.locked())


class RequestBackend(BytesBackend):
    """Stores values with the request's client ``cache``. If Redis is down, the cache is empty."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.shared = arguments["client"]

    @property
    def client(self) -> MonitoredRedisConnection:
        """The client of the current request, or the shared one outside a request."""
        client: MonitoredRedisConnection = getattr(get_current_request(), "cache", self.shared)
        return client

    def get_serialized(self, key: str) -> bytes | NoValueType:
        return self.get_serialized_multi([key])[0]

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[bytes | NoValueType]:
        keys = list(keys)
        try:
            with self.client.pipeline("get", transaction=False) as pipeline:
                for key in keys:
                    pipeline.get(key)
                found = pipeline.execute()
        except UNAVAILABLE:
            return [NO_VALUE] * len(keys)
        return [NO_VALUE if value is None else value for value in found]

    def set_serialized(self, key: str, value: bytes) -> None:
        self.set_serialized_multi({key: value})

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        with suppress(*UNAVAILABLE), self.client.pipeline("set", transaction=False) as pipeline:
            for key, value in mapping.items():
                pipeline.set(key, value, ex=KEPT)
            pipeline.execute()

    def delete(self, key: str) -> None:
        self.client.delete(key)  # an error is raised: the old value may still be there

    def delete_multi(self, keys: Iterable[str]) -> None:
        self.client.delete(*keys)

    def get_mutex(self, key: str) -> RefreshLock:
        return RefreshLock(self.shared.lock(f"lock:{key}", timeout=30, blocking_timeout=5))


register_backend("myapp.redis", __name__, "RequestBackend")  # type: ignore[no-untyped-call]
