"""A deadline bounds a call to a Cluster, with its redirections and look-ups of the layout."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import CircuitOpenError, DeadlineExceededError, is_retryable
from pyramid_baseplate_redis.cluster.transaction import RedirectionRetry
from pyramid_baseplate_redis.runtime.deadline import Deadline, called

from ..support.topologies import Cluster, frozen
from .conftest import MakeClusterClient, one_key_each
from .test_layout import MEASURES

SECONDS = 0.3
SLACK = 0.4


def exceeded(call: Callable[[], Any]) -> DeadlineExceededError:
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError) as caught:
        call()
    assert SECONDS - 0.02 < time.monotonic() - started < SECONDS + SLACK
    return caught.value


@MEASURES
def test_a_command_to_frozen_nodes_is_bounded(cluster: Cluster, make: MakeClusterClient) -> None:
    client = make(cluster, deadline="300 ms")
    client.set("key", "value")
    with frozen(cluster.nodes):
        exceeded(lambda: client.get("key"))
        client.connection_pool.disconnect()
        exceeded(lambda: client.get("key"))
        exceeded(lambda: client.pipeline().get("key").execute())
        exceeded(lambda: make(cluster).within(SECONDS).get("key"))
    assert client.get("key") == b"value"


@MEASURES
def test_a_pipeline_to_several_frozen_nodes_is_bounded(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client, keys = make(cluster, deadline="300 ms"), one_key_each(cluster)
    for key in keys:
        client.set(key, "value")
    pipeline = client.pipeline()
    for key in keys:
        pipeline.get(key)
    with frozen(cluster.nodes):
        exceeded(pipeline.execute)


@MEASURES
def test_a_transaction_of_a_cluster_is_bounded(cluster: Cluster, make: MakeClusterClient) -> None:
    client = make(cluster, deadline="300 ms")
    client.set("key", "value")
    with frozen(cluster.nodes):
        exceeded(lambda: client.transaction(lambda pipeline: pipeline.get("key"), name="read"))


@MEASURES
def test_a_short_deadline_does_not_fail_the_look_up_of_others(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, socket_timeout="5 seconds")
    found: list[Any] = []

    def read_shortly() -> None:
        with pytest.raises(DeadlineExceededError):
            client.within(0.2).get("key")

    with frozen(cluster.nodes):
        short = threading.Thread(target=read_shortly)
        short.start()
        time.sleep(0.05)  # it looks up the layout, and the other one waits for it
        other = threading.Thread(target=lambda: found.append(client.set("key", "value")))
        other.start()
        short.join()
    other.join()
    assert found == [True]


@MEASURES
def test_the_first_look_up_is_not_the_command(cluster: Cluster, make: MakeClusterClient) -> None:
    client = make(cluster, deadline="300 ms")
    with frozen(cluster.nodes):
        error = exceeded(lambda: client.incr("count"))
    assert error.phase == "looking up the layout of the Cluster"
    assert is_retryable(error) is True
    assert client.get("count") is None


def test_a_deadline_does_not_keep_the_breaker_closed(make: MakeClusterClient) -> None:
    # All nodes refuse the connection at once: more time would make no difference.
    client = make("redis+cluster://127.0.0.1:1", deadline="3 seconds", breaker_failures="1")
    with pytest.raises(redis.exceptions.RedisClusterException):
        client.get("key")
    with pytest.raises(CircuitOpenError):
        client.get("key")


def test_the_pauses_between_redirections_end_with_the_deadline() -> None:
    asked_at: list[float] = []

    def redirected() -> None:
        asked_at.append(time.monotonic())
        raise redis.exceptions.TryAgainError

    ends_at = time.monotonic() + 0.1
    with pytest.raises(redis.exceptions.TryAgainError):
        called(
            Deadline(ends_at),
            lambda: RedirectionRetry().call_with_retry(redirected, lambda error: None),
        )
    assert len(asked_at) == 11
    assert asked_at[-1] < ends_at + 0.2


@MEASURES
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.lock("key"),
        lambda client: client.register_script("return 1")(keys=["key"]),
        lambda client: client.mget_nonatomic("key", "other"),
        lambda client: client.get_nodes(),
    ],
    ids=["lock", "script", "mget_nonatomic", "get_nodes"],
)
def test_the_first_look_up_is_bounded_wherever_it_is_needed(
    cluster: Cluster, make: MakeClusterClient, call: Callable[[Any], Any]
) -> None:
    with frozen(cluster.nodes):
        exceeded(lambda: call(make(cluster, deadline="300 ms")))
        exceeded(lambda: call(make(cluster).within(SECONDS)))


@MEASURES
def test_a_call_that_was_cut_off_closes_no_other_connection(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster)
    client.set("key", "value")
    node = client.get_node_from_key("key")
    pool = client.get_redis_connection(node).connection_pool
    for connection in [pool.get_connection() for _ in range(3)]:
        pool.release(connection)
    with frozen(cluster.nodes):
        exceeded(lambda: client.within(SECONDS).get("key"))
        assert pool.stats.idle == 2
    assert client.get("key") == b"value"
