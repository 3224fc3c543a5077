"""The cache: a region of dogpile.cache on the connection pool of request.cache."""

import json

from dogpile.cache import make_region
from pyramid.events import ApplicationCreated
from pyramid.scripting import prepare

from pyramid_baseplate_redis import MonitoredRedisConnection

region = make_region(
    key_mangler=lambda key: f"board:{key}",
    serializer=lambda value: json.dumps(value).encode(),
    deserializer=json.loads,
)


def includeme(config):
    config.add_subscriber(connect, ApplicationCreated)


def connect(event):
    with prepare(registry=event.app.registry) as env:
        pool = env["request"].cache.connection_pool
    region.configure(
        "dogpile.cache.redis",
        arguments={"connection_pool": pool, "redis_expiration_time": 120},  # seconds
        expiration_time=60,  # seconds
        replace_existing_backend=True,
    )
    # dogpile.cache would use a plain client. This one makes spans.
    backend = region.backend
    backend.reader_client = backend.writer_client = MonitoredRedisConnection("cache", None, pool)
