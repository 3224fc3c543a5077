"""Metrics show no password, in OpenTelemetry's points and in a scrape of Prometheus."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, generate_latest

from pyramid_baseplate_redis.prometheus import observe_client

from ..support.metrics import Collected
from .clients import connected, error_of
from .search import assert_hidden
from .ways_in import STANDALONE, WAYS, Give


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("way", WAYS)
def test_no_metric_shows_the_password(way: str, refusing: str, given: Give) -> None:
    with connected(given(way, refusing)) as factory:
        observe_client(factory)
        client = factory.make_object_for_context("foo", None)
        assert error_of(client, "GET", "key")
        points = Collected().points
        scrape = generate_latest(REGISTRY).decode()
    assert "db.client.operation.duration" in points
    assert 'redis_pool="foo"' in scrape
    assert_hidden(repr(points))
    assert_hidden(scrape)


@pytest.mark.parametrize("way", STANDALONE)
def test_no_metric_of_a_command_shows_the_password(way: str, accepting: str, given: Give) -> None:
    with connected(given(way, accepting)) as factory:
        observe_client(factory)
        assert factory.make_object_for_context("foo", None).get("key") is None
        scrape = generate_latest(REGISTRY).decode()
    assert 'redis_client_name="foo"' in scrape
    assert_hidden(scrape)
