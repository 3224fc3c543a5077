"""The monitored connection to a Cluster: it is redis-py's, bound to a request, with settings."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from opentelemetry.trace import INVALID_SPAN
from pyramid.config import Configurator
from pyramid.response import Response
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from webtest import TestApp

from pyramid_baseplate_redis import (
    ClusterConnectionPool,
    ClusterRedisClient,
    ClusterRedisContextFactory,
    ConfigurationError,
    HotKey,
    MonitoredRedisClusterConnection,
    RedisClient,
    cluster_pool_from_config,
    hot_keys,
    pool_from_config,
)

from ..support.servers import RecordedSpans
from ..support.topologies import Cluster
from .conftest import SECRET, MakeClusterClient

# Made, and bound


def test_building_a_client_opens_nothing(make: MakeClusterClient) -> None:
    assert make("redis+cluster://127.0.0.1:1").connection_pool.stats.open == 0


def test_the_url_alone_makes_it_a_clusters(valkey_cluster: Cluster) -> None:
    factory = RedisClient().parse("foo", {"foo.url": valkey_cluster.url})
    assert isinstance(factory, ClusterRedisContextFactory)
    assert isinstance(factory.make_object_for_context("foo", None), MonitoredRedisClusterConnection)


def test_it_is_an_instance_of_rediscluster(client: MonitoredRedisClusterConnection) -> None:
    assert isinstance(client, RedisCluster)
    assert len(client.get_primaries()) == 3


def test_one_rediscluster_is_shared_by_all_clients_of_a_process(
    valkey_cluster: Cluster, make: MakeClusterClient
) -> None:
    first = make(valkey_cluster)
    second = first.bound_to(INVALID_SPAN)
    first.get("a")
    second.get("a")
    third = first.bound_to(INVALID_SPAN)
    assert first.nodes_manager is second.nodes_manager is third.nodes_manager


def test_threads_that_come_first_make_one_rediscluster(
    valkey_cluster: Cluster, make: MakeClusterClient
) -> None:
    prototype = make(valkey_cluster)
    managers: set[int] = set()
    barrier = threading.Barrier(8)

    def use() -> None:
        bound = prototype.bound_to(INVALID_SPAN)
        barrier.wait()
        bound.get("a")
        managers.add(id(bound.nodes_manager))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(managers) == 1


def test_the_end_of_a_requests_client_closes_no_connection(
    client: MonitoredRedisClusterConnection,
) -> None:
    client.set("a", 1)
    creations = client.connection_pool.stats.creations
    twin: Any = client.bound_to(INVALID_SPAN)
    twin.get("a")
    twin.close()
    del twin
    gc.collect()
    assert client.get("a") == b"1"
    assert client.connection_pool.stats.creations == creations


def test_a_callback_of_one_client_is_no_other_clients(
    client: MonitoredRedisClusterConnection,
) -> None:
    client.set("a", 1)
    other = client.bound_to(INVALID_SPAN)
    other.set_response_callback("GET", lambda response, **options: "own")
    assert (other.get("a"), client.get("a")) == ("own", b"1")


def test_a_forked_process_makes_its_own(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    client.set("a", "parent's")
    owner = cluster.node_of("a")
    before = {each["id"] for each in owner.client.client_list()}
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            client.set("a", "child's")
            os.write(write, b"done")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"done"
    os.close(read)
    os.close(write)
    assert client.get("a") == b"child's"
    # The parent's connections are as they were.
    after = {each["id"] for each in owner.client.client_list()}
    assert before <= after


@pytest.mark.parametrize("trace", ["all", "off"])
def test_a_child_forked_while_a_thread_holds_the_locks_does_not_wait_for_them(
    cluster: Cluster, make: MakeClusterClient, trace: str
) -> None:
    client = make(cluster, trace=trace)
    client.set("a", 1)
    assert ends_in_a_child(client, lambda: client.get("a") == b"1")


@pytest.mark.parametrize("is_bound", [False, True])
@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.pipeline().get("a").execute() == [b"1"],
        lambda client: client.transaction(lambda pipe: pipe.get("a"), "a") == [],
        lambda client: client.mget_nonatomic("a", "b") == [b"1", None],
        lambda client: client.pubsub().subscribe("channel") is None,
        lambda client: client.message_queue("jobs").get(timeout=1) == b"message",
        lambda client: len(client.get_primaries()) == 3,
    ],
)
def test_what_a_child_makes_waits_for_no_lock_of_the_parents(
    client: MonitoredRedisClusterConnection,
    use: Callable[[MonitoredRedisClusterConnection], bool],
    is_bound: bool,
) -> None:
    client.set("a", 1)
    client.rpush("jobs", "message")
    assert ends_in_a_child(
        client, lambda: use(client.bound_to(INVALID_SPAN) if is_bound else client)
    )


def ends_in_a_child(client: MonitoredRedisClusterConnection, use: Callable[[], bool]) -> bool:
    """Whether ``use`` is true in a child forked while a thread holds all locks."""
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with client.nodes_manager._lock, client._lock:
            locked.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if use() else 1
        finally:
            os._exit(status)
    ended = (0, 0)
    for _ in range(200):
        ended = os.waitpid(pid, os.WNOHANG)
        if ended[0]:
            break
        time.sleep(0.05)
    else:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    done.set()
    thread.join()
    return ended == (pid, 0)


def test_a_monitor_shows_what_one_node_gets(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    owner = cluster.node_of("foo")
    node = client.get_node(owner.host, owner.port)
    held = client.pipeline(transaction=True)
    held.watch("foo")  # its connection is made
    spans.clear()
    with client.monitor(node) as monitor:
        held.get("foo")
        seen = iter(lambda: monitor.next_command()["command"], "GET foo")
        assert all("GET" not in each for each in seen)
    held.reset()
    assert spans.names == ["foo.MONITOR", "foo.GET"]
    assert client.connection_pool.stats.in_use == 0


def test_a_callback_of_ones_own_outlives_a_fork(client: MonitoredRedisClusterConnection) -> None:
    client.set_response_callback("PING", lambda response, **options: "own")
    client.set_response_callback("GET", lambda response, **options: "own")
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = (
                0 if client.get("foo") == client.bound_to(INVALID_SPAN).get("foo") == "own" else 1
            )
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_hot_keys_are_counted(cluster: Cluster, make: MakeClusterClient) -> None:
    client = make(cluster, track_key_reads_sample_rate="100%", track_key_writes_sample_rate="100%")
    for _ in range(3):
        client.get("read")
    client.pipeline().set("written", 1).set("other", 1).set("written", 2).execute()
    tracker = client.connection_pool.hot_keys
    assert tracker is not None
    tracker.flush()
    assert hot_keys(client, "reads") == [HotKey(b"read", 3.0)]
    assert hot_keys(client, "writes") == [HotKey(b"written", 2.0), HotKey(b"other", 1.0)]


# Settings


@pytest.mark.parametrize("client_class", [ClusterRedisClient])
def test_a_url_of_a_single_server_is_refused(client_class: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client_class().parse("foo", {"foo.url": f"redis://:{SECRET}@h"})
    assert str(caught.value) == (
        "foo.url: is not a Cluster URL. Write it like redis+cluster://host1:7000,host2:7001"
    )


def test_a_single_pool_is_refused_for_a_cluster() -> None:
    with pytest.raises(ConfigurationError, match="Use cluster_pool_from_config"):
        pool_from_config({"foo.url": "redis+cluster://h"}, "foo.")


def pool_with(**kwargs: Any) -> ClusterConnectionPool:
    return cluster_pool_from_config({"foo.url": "redis+cluster://h"}, "foo.", **kwargs)


def parsed_with(**kwargs: Any) -> ClusterRedisContextFactory:
    return ClusterRedisClient(**kwargs).parse("foo", {"foo.url": "redis+cluster://h"})


@pytest.mark.parametrize("make_with", [pool_with, parsed_with])
def test_an_unknown_keyword_argument_is_refused_at_once_by_the_pools_public_name(
    make_with: Callable[..., Any],
) -> None:
    with pytest.raises(TypeError) as caught:
        make_with(sokcet_timeout=1)
    assert str(caught.value) == (
        "unexpected keyword argument 'sokcet_timeout': neither ClusterConnectionPool nor "
        "Connection has it"
    )


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        (
            "load_balancing_strategy",
            LoadBalancingStrategy.RANDOM,
            "use the setting foo.read_from_replicas = true and foo.load_balancing instead",
        ),
        ("read_from_replicas", True, "use the setting foo.read_from_replicas instead"),
        ("require_full_coverage", False, "use the setting foo.require_full_coverage instead"),
        ("startup_nodes", [ClusterNode("h", 1)], "use the setting foo.url instead"),
        ("host", "h", "use the setting foo.url instead"),
        (
            "retry",
            redis.retry.Retry(redis.backoff.NoBackoff(), 3),
            "redis-py would repeat commands that a node may have executed; use the setting "
            "foo.retries instead",
        ),
    ],
)
@pytest.mark.parametrize("make_with", [pool_with, parsed_with])
def test_a_keyword_argument_that_has_a_setting_is_refused_with_the_settings_name(
    make_with: Callable[..., Any], keyword: str, value: Any, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make_with(**{keyword: value})
    assert str(caught.value) == f"{keyword}: {message}"


def test_a_password_and_a_remapped_address_are_used_and_not_shown(
    fresh_cluster: Callable[..., Cluster],
) -> None:
    cluster = fresh_cluster(username="app", password=SECRET)
    pool = cluster_pool_from_config(
        {"foo.url": cluster.url.replace("127.0.0.1", "localhost"), "foo.decode_responses": "true"},
        "foo.",
        address_remap=lambda address: ("localhost", address[1]),
    )
    client = MonitoredRedisClusterConnection("foo", None, pool)
    client.set("foo", "bar")
    assert client.get("foo") == "bar"
    assert client.pipeline().get("foo").execute() == ["bar"]
    shown = f"{pool!r} {client!r} {pool.client_settings!r} {pool.pools!r}"
    assert SECRET not in shown
    assert "redis+cluster://app:***@localhost" in shown
    pool.disconnect()


def test_a_breaker_is_one_nodes(cluster: Cluster, make: MakeClusterClient) -> None:
    client = make(cluster, breaker_failures="1")
    client.get("foo")
    breakers = {id(pool.breaker) for pool in client.connection_pool.pools}
    assert len(breakers) == len(client.connection_pool.pools) > 1


# In an application


def test_a_request_has_it(cluster: Cluster, spans: RecordedSpans) -> None:
    config = Configurator(settings={"foo.url": cluster.url, "foo.socket_timeout": "2 seconds"})
    config.include("pyramid_baseplate_redis")
    config.add_message_queue("jobs")

    def view(request: Any) -> Response:
        request.foo.set("greeting", "hello")
        request.jobs.put("work")
        return Response(request.foo.get("greeting"))

    config.add_route("home", "/")
    config.add_view(view, route_name="home")
    app = TestApp(config.make_wsgi_app())
    assert app.get("/").text == "hello"
    assert app.get("/").text == "hello"
    children = [(name, "GET /") for name in ("foo.SET", "foo.RPUSH", "foo.GET")]
    assert spans.tree() == 2 * [("GET /", None), *children]
    introspectable = config.introspector.get("redis clients", "foo")
    assert introspectable["url"] == cluster.url
