"""The context factory of a client, and the failures that spans report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from pyramid_baseplate_redis import RedisContextFactory, pool_from_config

from ..support.servers import RecordedSpans, Server, attributes

tracer = trace.get_tracer("tests")


def code(span: ReadableSpan) -> Any:
    return attributes(span).get("db.response.status_code")


def failures(spans: RecordedSpans) -> list[str]:
    """The names of the spans that tell of a failure."""
    return [
        span.name
        for span in spans.all
        if span.status.status_code is not StatusCode.UNSET or "error.type" in attributes(span)
    ]


@pytest.fixture
def factory(valkey: Server) -> Iterator[RedisContextFactory]:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    yield RedisContextFactory(pool, "foo")
    pool.disconnect()
