"""A client that got the password in some way, and what its objects and errors show."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import RedisClusterException

from pyramid_baseplate_redis import RedisClient

from ..support.secrets import chain, told_by_span
from ..support.servers import RecordedSpans
from .ways_in import Given


@contextmanager
def connected(given: Given) -> Iterator[Any]:
    """Make the context factory of the client ``foo``, and disconnect its pool at the end."""
    factory = RedisClient("foo", **given.kwargs).parse("foo", given.settings)
    try:
        yield factory
    finally:
        factory.connection_pool.disconnect()


def error_of(client: Any, *command: str) -> BaseException | None:
    """Return the error of a command; no variable of this function has the password."""
    try:
        client.execute_command(*command)
    except (redis.RedisError, RedisClusterException) as error:
        return error
    return None


def shown_by_error(error: BaseException) -> str:
    """Return all that an error shows: its text, arguments, notes, attributes and tracebacks.

    The tracebacks have the local variables of each function, as error reports have.
    """
    texts = []
    for link in chain(error):
        texts += [str(link), repr(link), repr(link.args), repr(vars(link))]
        texts += [repr(getattr(link, "__notes__", []))]
        told = traceback.TracebackException.from_exception(link, capture_locals=True)
        texts += list(told.format())
    return "\n".join(texts)


def shown_by_spans(spans: RecordedSpans) -> str:
    return "\n".join(text for span in spans.all for text in [*told_by_span(span), span.to_json()])


def objects_of(factory: Any) -> list[Any]:
    """Return the objects of a client that an application or an error report may print."""
    pool = factory.connection_pool
    client = factory.make_object_for_context("foo", None)
    made = [
        factory, pool, pool.client_settings, pool.client_settings.parsed_url, client,
        client.client_telemetry,
    ]  # fmt: skip
    if hasattr(pool, "make_connection"):  # a Cluster's client has to ask a node first
        made += [
            pool.make_connection(), client.pipeline("p"), client.pubsub(), client.lock("lock"),
            client.message_queue("queue"),
        ]  # fmt: skip
    return made
