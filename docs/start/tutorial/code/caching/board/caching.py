"""The cache: a region of dogpile.cache on the connection pool of request.cache."""

import json

from dogpile.cache import make_region
from opentelemetry.trace import INVALID_SPAN
from pyramid.events import ApplicationCreated

from pyramid_baseplate_redis import ServerContext

region = make_region(
    key_mangler="board:{}".format,
    serializer=lambda value: json.dumps(value).encode(),
    deserializer=json.loads,
)


def includeme(config):
    config.add_subscriber(connect, ApplicationCreated)


def connect(event):
    cache = ServerContext(event.app.registry, INVALID_SPAN).cache
    region.configure(
        "dogpile.cache.redis",
        expiration_time=60,  # seconds until the value is computed again
        arguments={
            "connection_pool": cache.connection_pool,
            "redis_expiration_time": 120,  # seconds until Redis deletes it
        },
        replace_existing_backend=True,
    )
    # The backend has made a plain client on this pool. Ours makes spans.
    region.backend.reader_client = region.backend.writer_client = cache
