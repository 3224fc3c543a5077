"""Requests and pools as Prometheus scrapes them: metrics, commands, pipelines, labels."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import redis
from prometheus_client import REGISTRY

from pyramid_baseplate_redis import PoolTimeoutError, RedisClient
from pyramid_baseplate_redis.prometheus import observe_client
from pyramid_baseplate_redis.prometheus.instruments import PROCESS

from ..support.scrapes import Measured
from ..support.servers import Server, free_port
from ..support.topologies import Cluster, SentinelSet

BUCKETS = [
    "0.0001", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5",
    "1.0", "5.0", "15.0", "30.0", "+Inf",
]  # fmt: skip


# Names, types, labels, buckets


@pytest.mark.parametrize(
    ("name", "kind", "samples", "labels"),
    [
        (
            "redis_client_latency_seconds",
            "histogram",
            {"_bucket", "_count", "_sum", "_created"},
            "command database client_name type success",
        ),
        (
            "redis_client_requests",
            "counter",
            {"_total", "_created"},
            "command database client_name type success",
        ),
        ("redis_client_active_requests", "gauge", {""}, "command database client_name type"),
        ("redis_client_pool_max_size", "gauge", {""}, "pool"),
        ("redis_client_pool_idle_connections", "gauge", {""}, "pool"),
        ("redis_client_pool_active_connections", "gauge", {""}, "pool"),
    ],
)
def test_a_metric_has_baseplates_name_type_and_labels(
    foo: Measured, name: str, kind: str, samples: set[str], labels: str
) -> None:
    foo.client.get("a")

    (family,) = [family for family in REGISTRY.collect() if family.name == name]

    assert family.type == kind
    assert {sample.name.removeprefix(name) for sample in family.samples} == samples
    for sample in family.samples:
        assert {*sample.labels} - {"le"} == {f"redis_{label}" for label in labels.split()}


def test_latencies_have_baseplates_buckets(foo: Measured) -> None:
    foo.client.get("a")

    (family,) = [each for each in REGISTRY.collect() if each.name == "redis_client_latency_seconds"]
    own = [each for each in family.samples if each.labels["redis_client_name"] == foo.name]
    assert [each.labels["le"] for each in own if "le" in each.labels] == BUCKETS


def test_the_database_is_a_label(measure: Callable[..., Measured], valkey: Server) -> None:
    third = measure(valkey.url.replace("/0", "/3"))
    third.client.get("a")

    assert third.sample("active_requests", "get", redis_database="3") == 0
    assert third.active("get") is None


def client_name_of(client: RedisClient, settings: dict[str, str]) -> str:
    factory: Any = client.parse("foo", {"foo.url": "redis://localhost", **settings})
    observe_client(factory)
    (observer,) = factory.connection_pool.observers
    name: str = observer._labels[1]
    return name


def test_the_client_name_is_empty_unless_there_is_one() -> None:
    assert client_name_of(RedisClient(), {}) == ""
    assert client_name_of(RedisClient("mine"), {}) == "mine"
    assert client_name_of(RedisClient(client_name="keyword"), {}) == "keyword"
    assert client_name_of(RedisClient(), {"foo.client_name": "setting"}) == "setting"
    assert client_name_of(RedisClient("mine"), {"foo.client_name": "setting"}) == "mine"


# Commands


def test_a_command_is_counted_and_timed(foo: Measured) -> None:
    foo.client.get("a")
    foo.client.get("a")

    assert foo.requests("get") == {"true": 2}
    assert foo.sample("latency_seconds_count", "get", redis_success="true") == 2
    seconds = foo.sample("latency_seconds_sum", "get", redis_success="true")
    assert seconds is not None
    assert 0 < seconds < 60
    assert foo.sample("latency_seconds_bucket", "get", redis_success="true", le="+Inf") == 2
    assert foo.active("get") == 0


def test_a_servers_error_is_a_failure(foo: Measured) -> None:
    foo.client.set("a", "text")
    with pytest.raises(redis.ResponseError):
        foo.client.lpush("a", "b")

    assert foo.requests("lpush") == {"false": 1}
    assert foo.sample("latency_seconds_count", "lpush", redis_success="false") == 1


def test_a_command_that_failed_is_active_no_longer_while_its_error_is_handled(
    foo: Measured,
) -> None:
    foo.client.set("a", "text")
    with pytest.raises(redis.ResponseError) as raised:
        foo.client.lpush("a", "b")

    assert foo.active("lpush") == 0
    assert raised.tb is not None  # and with it the frames, and what they know of the command


def test_a_connection_error_is_a_failure(measure: Callable[..., Measured]) -> None:
    down = measure(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(redis.ConnectionError):
        down.client.get("a")

    assert down.requests("get") == {"false": 1}
    assert down.active("get") == 0
    assert down.pooled("active_connections") == 0


def test_a_command_that_gets_no_connection_is_a_failure(foo: Measured) -> None:
    held = [foo.pool.get_connection(), foo.pool.get_connection()]
    with pytest.raises(PoolTimeoutError):
        foo.client.get("a")

    assert foo.requests("get") == {"false": 1}
    assert foo.active("get") == 0
    for connection in held:
        foo.pool.release(connection)


def test_the_wait_for_a_connection_is_part_of_the_latency(
    measure: Callable[..., Measured], valkey: Server
) -> None:
    small = measure(valkey, max_connections="1", pool_timeout="0.3 seconds")
    held = small.pool.get_connection()
    with pytest.raises(PoolTimeoutError):
        small.client.get("a")
    small.pool.release(held)

    seconds = small.sample("latency_seconds_sum", "get", redis_success="false")
    assert seconds is not None
    assert seconds >= 0.29


def test_a_script_that_redis_py_loads_is_no_failure(foo: Measured) -> None:
    foo.client.register_script(f"return '{foo.name}'")()

    assert foo.requests("evalsha") == {"true": 2}
    assert foo.requests("script load") == {"true": 1}


def test_a_queues_commands_are_counted(foo: Measured) -> None:
    foo.client.message_queue("jobs").put("work")

    assert foo.requests("rpush") == {"true": 1}


def test_a_subscription_is_counted(foo: Measured) -> None:
    with foo.client.pubsub() as subscriber:
        subscriber.subscribe("news")

    assert foo.requests("subscribe") == {"true": 1}


def test_a_client_without_prometheus_is_not_counted(valkey: Server) -> None:
    factory = RedisClient("unobserved").parse("foo", {"foo.url": valkey.url})
    factory.make_object_for_context("foo", None).get("a")

    labels = {"redis_command": "get", "redis_database": "0", "redis_client_name": "unobserved"}
    found = REGISTRY.get_sample_value(
        "redis_client_active_requests", {**labels, "redis_type": "standalone"}
    )
    assert found is None
    factory.connection_pool.disconnect()


def test_what_goes_wrong_while_measuring_breaks_no_command(
    foo: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: object) -> None:
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(PROCESS, "carry_out", fail)

    assert foo.client.set("a", "b") is True
    assert foo.client.get("a") == b"b"


# Pipelines


def test_a_pipeline_is_one_request(foo: Measured) -> None:
    with foo.client.pipeline("load") as pipeline:
        pipeline.set("a", "b").get("a").execute()

    assert foo.requests("pipeline") == {"true": 1}
    assert foo.commands == {"pipeline"}
    assert foo.active("pipeline") == 0


def test_a_pipeline_that_raises_is_a_failure(foo: Measured) -> None:
    with foo.client.pipeline("load") as pipeline, pytest.raises(redis.ResponseError):
        pipeline.set("a", "text").lpush("a", "b").execute()

    assert foo.requests("pipeline") == {"false": 1}
    assert foo.active("pipeline") == 0


def test_a_failure_among_the_results_of_a_pipeline_is_a_failure(foo: Measured) -> None:
    with foo.client.pipeline("load", transaction=False) as pipeline:
        pipeline.set("a", "text").lpush("a", "b").execute(raise_on_error=False)

    assert foo.requests("pipeline") == {"false": 1}
    assert foo.sample("latency_seconds_count", "pipeline", redis_success="false") == 1


def test_an_empty_pipeline_is_no_request(foo: Measured) -> None:
    with foo.client.pipeline("load") as pipeline:
        pipeline.execute()

    assert foo.commands == set()


def test_a_watched_key_that_changed_is_no_failure(foo: Measured) -> None:
    with foo.client.pipeline("count") as pipeline:
        pipeline.watch("a")
        foo.client.set("a", "other")
        pipeline.multi()
        pipeline.set("a", "mine")
        with pytest.raises(redis.WatchError):
            pipeline.execute()

    assert foo.requests("pipeline") == {"true": 1}
    assert foo.active("pipeline") == 0


def test_what_a_pipeline_sends_at_once_is_counted_by_command(foo: Measured) -> None:
    with foo.client.pipeline("count") as pipeline:
        pipeline.watch("a")
        pipeline.get("a")
        pipeline.multi()
        pipeline.set("a", "1")
        pipeline.execute()

    assert foo.requests("watch") == foo.requests("get") == {"true": 1}
    assert foo.requests("pipeline") == {"true": 1}
    assert foo.requests("set") == {}


# The label redis_command


@pytest.mark.parametrize("command", ["get", "GET", b"GET", "GET secret-key"])
def test_a_commands_label_is_its_name_in_lower_case(foo: Measured, command: Any) -> None:
    arguments = [] if "secret" in str(command) else ["a"]
    foo.client.execute_command(command, *arguments)

    assert foo.commands == {"get"}


def test_a_subcommand_is_part_of_the_label(foo: Measured) -> None:
    foo.client.config_get("maxmemory")

    assert foo.commands == {"config get"}


def test_a_command_that_is_called_pipeline_is_not_taken_for_one(foo: Measured) -> None:
    with pytest.raises(redis.ResponseError):
        foo.client.execute_command("pipeline")

    assert foo.commands == {"other"}


def test_names_that_are_made_up_share_one_label(foo: Measured) -> None:
    for number in range(1100):
        with pytest.raises(redis.ResponseError):
            foo.client.execute_command(f"MADEUP{number}", "secret")
        if not number % 100:
            with pytest.raises(redis.ResponseError):
                foo.client.execute_command("CONFIG", f"SECRET{number}")

    assert foo.commands == {"other", "config"}
    assert foo.requests("other") == {"false": 1100}
    (observer,) = foo.pool.observers
    assert len(observer._series) <= 1024


# Pools


def test_a_pools_size_and_its_connections_are_shown(foo: Measured) -> None:
    assert foo.pooled("max_size") == 2
    assert (foo.pooled("active_connections"), foo.pooled("idle_connections")) == (0, 0)

    held = foo.pool.get_connection()
    assert (foo.pooled("active_connections"), foo.pooled("idle_connections")) == (1, 0)

    foo.pool.release(held)
    assert (foo.pooled("active_connections"), foo.pooled("idle_connections")) == (1, 1)


def test_pools_of_one_name_are_added_up_while_they_live(valkey: Server) -> None:
    def build() -> Any:
        factory: Any = RedisClient().parse("twice", {"twice.url": valkey.url})
        observe_client(factory)
        return factory

    def size() -> float | None:
        return REGISTRY.get_sample_value("redis_client_pool_max_size", {"redis_pool": "twice"})

    first, second = build(), build()
    assert size() == 100

    del first
    gc.collect()
    assert size() == 50
    del second


def test_a_client_that_is_observed_twice_is_counted_once(foo: Measured) -> None:
    observe_client(foo.factory)
    foo.client.get("a")

    assert foo.requests("get") == {"true": 1}
    assert foo.pooled("max_size") == 2


# Topologies


def test_a_clusters_client_is_of_type_cluster(
    measure: Callable[..., Measured], cluster: Cluster
) -> None:
    clustered = measure(cluster, redis_type="cluster", max_connections="7")
    clustered.client.set("a", "b")
    with clustered.client.pipeline("load") as pipeline:
        pipeline.get("a").get("b").execute()

    assert clustered.requests("set") == {"true": 1}
    assert clustered.requests("pipeline") == {"true": 1}
    figures = clustered.pool.stats
    assert clustered.pooled("max_size") == figures.max == 7 * len(clustered.pool.pools)
    assert clustered.pooled("active_connections") == figures.open
    assert clustered.pooled("idle_connections") == figures.idle > 0


def test_a_client_behind_sentinel_is_of_type_standalone(
    measure: Callable[..., Measured], sentinels: SentinelSet
) -> None:
    watched = measure(sentinels)
    watched.client.set("a", "b")

    assert watched.requests("set") == {"true": 1}
    assert watched.pooled("idle_connections") == 1
