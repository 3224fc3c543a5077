"""Generated passwords, and a search for their fragments in all that a client shows."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pathlib
import string
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock
from urllib.parse import quote, quote_plus

import redis
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan

from pyramid_baseplate_redis import ConfigurationError, RedisContextFactory, pool_from_config
from pyramid_baseplate_redis.settings.sources import load_client_settings

SHORTEST_FRAGMENT = 6
PLAIN = "Kreuzworträtsel-QZX"  # for what doesn't depend on a password's characters

# Few ASCII letters and no digits: words, ports and addresses in memory are made of them.
_ANY = st.characters(
    exclude_categories=["Cs"], exclude_characters=f"{string.ascii_letters}{string.digits}\x00"
)
# The last four are, to a URL parser that normalises, the first ones.
_SPECIAL = st.sampled_from(
    "/#?@%:[]\\'\"` &=+;,$<>{}|^~!*()GHJKghjk§äßЖ密🔑℀\uff0f\uff03\uff1f\uff20"
)
SECRETS = st.text(st.one_of(_SPECIAL, _ANY), min_size=8, max_size=40)

in_memory = settings(max_examples=100, deadline=None)
with_an_application = settings(max_examples=20, deadline=None)
with_a_server = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

URLS_WITH_AN_ENCODED_SECRET = [
    "redis://:{}@localhost/1",
    "redis://user:{}@localhost:6379",
    "rediss://:{}@localhost",
    "unix://:{}@/run/redis.sock",
    "unix://user:{}@/run/redis.sock?db=2",
    "embedded://:{}@/directory",
    "redis://localhost?password={}",
    "redis://:{}@localhost:port",
    "redis://:{}@localhost/1/2",
    "redis://:{}@localhost?nonsense=1",
    "redis://:{}@localhost?max_connections=0",
    "redis://:{}@localhost?password=another",
    "redis://another:secret@localhost?password={}",
    "reddis://:{}@localhost",
    "rediss://localhost?ssl_password={}",
    "redis://localhost?ssl_password={}",
    "embedded:///directory?password={}",
    "redis://localhost?socket_timeout={}",
    "redis://localhost?{}=1",
    "redis://{}@localhost",
]
URLS_WITH_A_RAW_SECRET = [
    "redis://:{}@localhost/1",
    "redis://user:{}@localhost:6379/1",
    "rediss://:{}@localhost",
    "unix://:{}@/run/redis.sock",
    "embedded://:{}@/directory",
    "redis://localhost?password={}",
    "redis://localhost/1?password={}&db=2",
    "rediss://localhost?ssl_password={}",
    "{}://:{}@localhost",
    "redis:/:{}@localhost",
    "redis:{}@localhost",
]


URLS_ELSEWHERE = [*URLS_WITH_AN_ENCODED_SECRET, *URLS_WITH_A_RAW_SECRET]


@contextlib.contextmanager
def url_elsewhere(key: str, url: str) -> Iterator[dict[str, str]]:
    """The settings of a client whose URL is in an environment variable or in a file.

    No fixture: Hypothesis calls a test many times with the same one.
    """
    if key == "url_env":
        with mock.patch.dict(os.environ, TEST_REDIS_URL=url):
            yield {"foo.url_env": "TEST_REDIS_URL"}
    else:
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory, "redis_url")
            file.write_bytes(url.encode())
            yield {"foo.url_file": str(file)}


def fragments(secret: str) -> set[str]:
    """Every piece of a secret, raw or percent-encoded, that is long enough to give it away."""
    forms = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    forms |= {form.lower() for form in forms}
    forms |= {repr(form)[1:-1] for form in forms}
    return {piece for form in forms for piece in pieces(form)}


def pieces(text: str) -> set[str]:
    starts = range(len(text) - SHORTEST_FRAGMENT + 1)
    return {text[start : start + SHORTEST_FRAGMENT] for start in starts}


def leaked(secret: str, texts: Iterable[str]) -> set[str]:
    """The fragments of a secret that appear in what was said."""
    told = "\n".join(set(texts))
    return fragments(secret) & (pieces(told) | pieces(told.lower()))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and every other that it is chained to."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            yield error
            waiting += [error.__cause__, error.__context__]


def told_by_error(error: BaseException) -> Iterator[str]:
    for link in chain(error):
        yield str(link)
        yield repr(link)
        yield repr(vars(link))
    yield "".join(traceback.format_exception(error))


def told_by_pool(pool: redis.BlockingConnectionPool) -> Iterator[str]:
    """What the objects made of a pool say about themselves."""
    return told_by_factory(RedisContextFactory(pool, "foo"))


def told_by_factory(factory: RedisContextFactory) -> Iterator[str]:
    pool = factory.connection_pool
    client = factory.make_object_for_context("foo", None)
    plain = redis.Redis(connection_pool=pool)
    for thing in (
        pool,
        pool.make_connection(),
        factory,
        client,
        client.client_telemetry,
        client.pipeline("name"),
        client.message_queue("queue"),
        client.lock("lock"),
        client.pubsub(),
        plain,
        getattr(pool, "client_settings", None),
    ):
        yield repr(thing)
        yield str(thing)


def told_about(app_config: dict[str, Any]) -> list[str]:
    """All that is said when a client's settings are read and its objects are made."""
    try:
        of_client = load_client_settings(app_config, "foo.")
        texts = [repr(of_client), str(of_client.shown()), of_client.url]
        pool = pool_from_config(app_config, "foo.")
    except ConfigurationError as error:
        return list(told_by_error(error))
    return [*texts, *told_by_pool(pool)]


def told_by_span(span: ReadableSpan) -> Iterator[str]:
    yield span.name
    yield repr(dict(span.attributes or {}))
    yield repr([(event.name, event.attributes) for event in span.events])
    yield repr(span.status.description)


def told_by_records(records: Iterable[logging.LogRecord]) -> Iterator[str]:
    for record in records:
        yield record.getMessage()
        yield record.exc_text or ""
        if record.exc_info and record.exc_info[1] is not None:
            yield from told_by_error(record.exc_info[1])


@functools.cache
def said_anyway() -> set[str]:
    """The pieces of what is said about a secret that none of the generated ones resembles."""
    texts = []
    for url in [*URLS_WITH_AN_ENCODED_SECRET, *URLS_WITH_A_RAW_SECRET]:
        texts += told_about({"foo.url": url.replace("{}", "ΩΩΩΩΩΩΩΩ")})
    for url in URLS_ELSEWHERE:
        with url_elsewhere("url_env", url.replace("{}", "ΩΩΩΩΩΩΩΩ")) as app_config:
            texts += told_about(app_config)
    for key in ("password", "ssl_password", "pasword", "url", "url_env", "url_file"):
        texts += told_about({"foo.url": "rediss://localhost", f"foo.{key}": "ΩΩΩΩΩΩΩΩ"})
    return pieces("\n".join(texts))


def assume_telling(secret: str) -> None:
    """Pass over a secret of which a piece is part of the messages whatever the secret."""
    assume(not fragments(secret) & said_anyway())


ELSEWHERE = st.sampled_from(["url_env", "url_file"])
