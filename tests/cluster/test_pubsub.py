"""Subscribers in a Cluster have spans, and give back their connections."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import INVALID_SPAN

from pyramid_baseplate_redis import MonitoredRedisClusterConnection

from ..support.servers import RecordedSpans, wait_until
from ..support.topologies import Cluster
from .conftest import one_key_each


def test_a_subscriber_works(client: MonitoredRedisClusterConnection, spans: RecordedSpans) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("channel")
        subscriber.get_message(timeout=1)
        client.publish("channel", "hello")
        found: list[Any] = []
        wait_until(lambda: found.append(subscriber.get_message(timeout=1)) or any(found))
    assert [each["data"] for each in found if each] == [b"hello"]
    assert spans.names[:2] == ["foo.SUBSCRIBE", "foo.PUBLISH"]
    assert client.connection_pool.stats.in_use == 0


def test_shard_channels_have_spans(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    found: list[Any] = []
    with client.pubsub() as subscriber:
        subscriber.ssubscribe(channel=found.append)
        subscriber.get_sharded_message(timeout=1)
        client.spublish("channel", "hello")
        wait_until(lambda: subscriber.get_sharded_message(timeout=0.1) or found)
        subscriber.sunsubscribe("channel")
    assert [message["data"] for message in found] == [b"hello"]
    assert spans.names == [
        "foo.SSUBSCRIBE",
        "foo.SPUBLISH",
        "foo.process",
        "foo.SUNSUBSCRIBE",
    ]


def test_shard_channels_that_a_request_leaves_open_are_given_back(
    client: MonitoredRedisClusterConnection, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    bound = client.bound_to(INVALID_SPAN)
    subscriber = bound.pubsub()
    subscriber.ssubscribe(*one_key_each(cluster))
    assert client.connection_pool.stats.in_use == 3
    bound.give_back()
    assert client.connection_pool.stats.in_use == 0
    assert "MonitoredClusterPubSub was left open" in caplog.text
