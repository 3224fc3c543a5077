"""The monitored connection to a Cluster: redis-py's in everything, with a span for each command."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode, get_tracer
from pyramid.config import Configurator
from pyramid.response import Response
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.exceptions import ClusterDownError, RedisClusterException
from webtest import TestApp

from pyramid_baseplate_redis import (
    ClusterConnectionPool,
    ClusterRedisClient,
    ClusterRedisContextFactory,
    ConfigurationError,
    HotKey,
    MessageQueue,
    MonitoredRedisClusterConnection,
    PoolTimeoutError,
    RedisClient,
    TimedOutError,
    cluster_pool_from_config,
    hot_keys,
    is_retryable,
    pool_from_config,
)

from ..support.servers import RecordedSpans, wait_until
from ..support.topologies import Cluster, Node

MakeClusterClient = Callable[..., MonitoredRedisClusterConnection]
SECRET = "correct-horse-battery"


@pytest.fixture
def make() -> Iterator[MakeClusterClient]:
    """Make the client ``foo`` of a Cluster, with the settings given."""
    pools: list[ClusterConnectionPool] = []

    def make(cluster: Cluster | str, **settings: str) -> MonitoredRedisClusterConnection:
        url = cluster if isinstance(cluster, str) else cluster.url
        own = {f"foo.{key}": value for key, value in settings.items()}
        pools.append(cluster_pool_from_config({"foo.url": url, **own}, "foo."))
        return ClusterRedisContextFactory(pools[-1], "foo").make_object_for_context("foo", None)

    yield make
    for pool in pools:
        pool.disconnect()


@pytest.fixture
def client(cluster: Cluster, make: MakeClusterClient) -> MonitoredRedisClusterConnection:
    made = make(cluster)
    made.ping(target_nodes=RedisCluster.PRIMARIES)  # the layout is known
    return made


def another(cluster: Cluster, source: Node) -> Node:
    """A primary to migrate slots to."""
    return next(node for node in cluster.primaries() if node is not source)


def one_key_each(cluster: Cluster) -> list[str]:
    """A key on each primary; tests move slots for good."""
    found: dict[int, str] = {}
    names = (f"key:{number}" for number in range(1000))
    while len(found) < len(cluster.primaries()):
        name = next(names)
        found.setdefault(cluster.node_of(name).port, name)
    return list(found.values())


def server_of(span: Any) -> tuple[Any, Any]:
    return span.attributes.get("server.address"), span.attributes.get("server.port")


# Made, and bound


def test_building_a_client_opens_nothing(make: MakeClusterClient) -> None:
    assert make("redis+cluster://127.0.0.1:1").connection_pool.stats.open == 0


def test_the_url_alone_makes_it_a_clusters(valkey_cluster: Cluster) -> None:
    factory = RedisClient().parse("foo", {"foo.url": valkey_cluster.url})
    assert isinstance(factory, ClusterRedisContextFactory)
    assert isinstance(factory.make_object_for_context("foo", None), MonitoredRedisClusterConnection)


def test_it_is_a_rediscluster_to_everybody(client: MonitoredRedisClusterConnection) -> None:
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


def test_a_callback_of_ones_own_is_nobody_elses(client: MonitoredRedisClusterConnection) -> None:
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
    own = client.connection_pool._locks[os.getpid()]
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with client.nodes_manager._lock, client._lock, own:
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


# Spans


def test_a_command_has_one_span_with_the_node_that_answered(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", "bar")
    (span,) = spans.all
    assert (span.name, span.kind) == ("foo.SET", SpanKind.CLIENT)
    assert span.attributes == {
        "db.system.name": "redis",
        "db.namespace": "0",
        "db.operation.name": "SET",
        "db.client.connection.pool.name": "foo",
        "server.address": "127.0.0.1",
        "server.port": cluster.node_of("foo").port,
    }


def test_the_first_command_of_a_process_has_one_span(
    cluster: Cluster, make: MakeClusterClient, spans: RecordedSpans
) -> None:
    make(cluster).set("foo", "bar")
    assert spans.names == ["foo.SET"]
    assert server_of(spans.all[0]) == ("127.0.0.1", cluster.node_of("foo").port)


def test_a_span_is_a_child_of_the_requests(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    server_span = get_tracer("test").start_span("request")
    client.bound_to(server_span).get("foo")
    (span,) = spans.all
    assert span.parent == server_span.get_span_context()


def test_a_command_behind_a_moved_slot_has_one_span_that_counts_the_redirection(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", "bar")
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    target = another(cluster, source)
    cluster.migrate_slot(slot, source, target)
    spans.clear()
    assert client.get("foo") == b"bar"
    assert client.get("foo") == b"bar"
    redirected, direct = spans.all
    assert redirected.attributes["redis.client.operation.redirections"] == 1
    assert server_of(redirected) == server_of(direct) == ("127.0.0.1", target.port)
    assert redirected.status.status_code is StatusCode.UNSET
    assert "redis.client.operation.redirections" not in direct.attributes


def test_redirections_of_all_clients_together_have_the_layout_asked_for_anew(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    source = cluster.node_of("foo")
    slots = [cluster.slot_of(f"foo:{number}") for number in range(100)]
    keys = [f"foo:{n}" for n, slot in enumerate(slots) if cluster.owner_of(slot) is source][:6]
    target = another(cluster, source)
    for key in keys:
        cluster.migrate_slot(cluster.slot_of(key), source, target)
    for key in keys:
        client.bound_to(INVALID_SPAN).get(key)  # each is a request's
    # redis-py asks at the fifth, and the sixth is known then.
    counts = [span.attributes.get("redis.client.operation.redirections", 0) for span in spans.all]
    assert counts[-6:] == [1, 1, 1, 1, 1, 0]
    for key in keys:
        cluster.migrate_slot(cluster.slot_of(key), target, source)


def test_the_span_names_the_node_though_another_is_asked_for_the_layout(
    cluster: Cluster, spans: RecordedSpans
) -> None:
    pool = cluster_pool_from_config({"foo.url": cluster.url}, "foo.", reinitialize_steps=1)
    client = ClusterRedisContextFactory(pool, "foo").make_object_for_context("foo", None)
    client.set("foo", "bar")
    source = cluster.node_of("foo")
    cluster.migrate_slot(cluster.slot_of("foo"), source, another(cluster, source))
    spans.clear()
    assert client.get("foo") == b"bar"
    (span,) = spans.all
    assert server_of(span) == ("127.0.0.1", cluster.node_of("foo").port)
    assert span.attributes["redis.client.operation.redirections"] == 1
    pool.disconnect()


def test_the_span_of_a_failure_names_the_node_that_failed(
    client: MonitoredRedisClusterConnection,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    spans: RecordedSpans,
) -> None:
    client.get("foo")
    node = cluster.node_of("foo")
    spans.clear()
    _losing_replies(client, node, monkeypatch)
    with pytest.raises(redis.ConnectionError):
        client.get("foo")
    (span,) = spans.all
    assert server_of(span) == ("127.0.0.1", node.port)


def test_the_span_names_the_node_though_another_was_asked_where_the_keys_are(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    names = [f"stream:{number}" for number in range(20)]
    for name in names:
        client.xread({name: "0"})  # redis-py asks its default node: COMMAND GETKEYS
    servers = [server_of(span) for span in spans.all]
    assert servers == [("127.0.0.1", cluster.node_of(name).port) for name in names]


def test_a_command_that_is_asked_elsewhere_has_one_span_that_counts_the_redirection(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.mset({"{foo}1": "a", "{foo}2": "b"})
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "{foo}1")
    spans.clear()
    assert client.get("{foo}1") == b"a"
    (span,) = spans.all
    assert span.attributes["redis.client.operation.redirections"] == 1
    assert server_of(span) == ("127.0.0.1", target.port)


def test_tries_while_keys_are_on_two_nodes_are_inside_the_span(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.mset({"{foo}1": "a", "{foo}2": "b"})
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "{foo}1")
    finish = threading.Timer(0.1, cluster.finish_migration, (slot, source, target))
    finish.start()
    spans.clear()
    try:
        assert client.mget("{foo}1", "{foo}2") == [b"a", b"b"]
    finally:
        finish.join()
    (span,) = spans.all
    assert span.attributes["redis.client.operation.redirections"] > 1
    assert span.status.status_code is StatusCode.UNSET


def test_a_servers_error_is_on_the_span_with_the_node(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", "text")
    spans.clear()
    with pytest.raises(redis.ResponseError):
        client.lpush("foo", 1)
    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["db.response.status_code"] == "WRONGTYPE"
    assert server_of(span) == ("127.0.0.1", cluster.node_of("foo").port)


def test_a_pipeline_across_slots_is_one_span_of_no_one_node(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    keys = [f"key:{number}" for number in range(12)]
    pipeline = client.pipeline("many")
    for key in keys:
        pipeline.set(key, key)
    assert pipeline.execute() == [True] * 12
    (span,) = spans.all
    assert span.name == "foo.pipeline_many"
    assert span.attributes["db.operation.name"] == "PIPELINE SET"
    assert span.attributes["db.operation.batch.size"] == 12
    assert server_of(span) == (None, None)


def test_a_pipeline_to_one_node_names_it(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.pipeline().set("{foo}1", 1).set("{foo}2", 2).execute()
    (span,) = spans.all
    assert span.name == "foo.pipeline"
    assert server_of(span) == ("127.0.0.1", cluster.node_of("{foo}1").port)


def test_a_pipeline_follows_a_moved_slot_within_its_span(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", 1)
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    cluster.migrate_slot(slot, source, another(cluster, source))
    spans.clear()
    assert client.pipeline().incr("foo").incr("foo").execute() == [2, 3]
    (span,) = spans.all
    assert span.attributes["redis.client.operation.redirections"] >= 1


def test_pipelines_do_not_wait_for_each_others_connections(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, max_connections="1", pool_timeout="20 seconds")
    names = one_key_each(cluster)
    done: list[int] = []

    def work(order: list[str]) -> None:
        for _ in range(100):
            pipeline = client.pipeline()
            for name in order:
                pipeline.get(name)
            pipeline.execute()
            done.append(1)

    orders = [names, names[::-1], names[1:] + names[:1], names[::-1]]
    threads = [threading.Thread(target=work, args=[order]) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 400
    assert client.connection_pool.stats.timeouts == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_results_stand_where_their_commands_do_whatever_the_nodes(
    client: MonitoredRedisClusterConnection,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[int, ...],
) -> None:
    names = one_key_each(cluster)
    moved, lost, wrong = names
    client.set(moved, "moved")
    client.lpush(wrong, "no text")
    source, silent = cluster.node_of(moved), cluster.node_of(lost)
    cluster.migrate_slot(cluster.slot_of(moved), source, cluster.node_of(wrong))
    _losing_replies(client, silent, monkeypatch)
    pipeline = client.pipeline()
    for index in order:
        pipeline.get(names[index])
    results = pipeline.execute(raise_on_error=False)
    assert results[order.index(0)] == b"moved"
    assert isinstance(results[order.index(1)], redis.ConnectionError)
    assert isinstance(results[order.index(2)], redis.ResponseError)


def test_the_first_error_of_a_pipeline_is_that_of_its_first_command(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    names = one_key_each(cluster)
    client.mset_nonatomic(dict.fromkeys(names, "text"))
    for order in (names, names[::-1]):
        pipeline = client.pipeline()
        for name in order:
            pipeline.lpush(name, 1)
        with pytest.raises(redis.ResponseError, match=rf"Command # 1 \(LPUSH {order[0]} 1\)"):
            pipeline.execute()


def test_an_empty_pipeline_makes_no_span(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    assert client.pipeline().execute() == []
    assert spans.names == []


def test_a_failure_among_a_pipelines_results_is_one_of_the_span(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    client.set("foo", "text")
    spans.clear()
    results = client.pipeline().get("foo").lpush("foo", 1).execute(raise_on_error=False)
    assert results[0] == b"text"
    assert isinstance(results[1], redis.ResponseError)
    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["db.response.status_code"] == "WRONGTYPE"


def test_the_code_of_an_error_that_a_pipeline_raises_is_the_servers(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    client.set("foo", "text")
    spans.clear()
    with pytest.raises(redis.ResponseError):
        client.pipeline().lpush("foo", 1).execute()
    assert spans.all[0].attributes["db.response.status_code"] == "WRONGTYPE"


@pytest.mark.parametrize("balancing", ["round_robin_replicas", "random_replica"])
def test_reads_from_replicas_tell_the_replica(
    cluster: Cluster, make: MakeClusterClient, spans: RecordedSpans, balancing: str
) -> None:
    client = make(cluster, read_from_replicas="true", load_balancing=balancing)
    client.set("never moved", "bar")
    primary = cluster.node_of("never moved")
    (replica,) = cluster.replicas(primary)
    primary.client.wait(1, 1000)
    spans.clear()
    assert client.get("never moved") == b"bar"
    assert server_of(spans.all[0]) == ("127.0.0.1", replica.port)


def test_reads_go_to_the_primary_unless_told_otherwise(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    for _ in range(5):
        client.get("foo")
    assert {span.attributes["server.port"] for span in spans.all} == {cluster.node_of("foo").port}


# Transactions


def increment(pipeline: Any) -> None:
    value = int(pipeline.get("{foo}n") or 0)
    pipeline.multi()
    pipeline.set("{foo}n", value + 1)
    pipeline.get("{foo}n")


def test_a_transaction_with_watch_has_a_span_for_each_step(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    assert client.transaction(increment, "{foo}n", name="increment") == [True, b"1"]
    assert spans.names == ["foo.WATCH", "foo.GET", "foo.pipeline_increment"]
    port = cluster.node_of("{foo}n").port
    assert [span.attributes["server.port"] for span in spans.all] == [port] * 3
    assert spans.all[2].attributes["db.operation.name"] == "MULTI"
    assert spans.all[2].attributes["db.operation.batch.size"] == 2


def test_a_transaction_is_tried_again_until_nobody_interferes(
    client: MonitoredRedisClusterConnection,
) -> None:
    other = client.bound_to(INVALID_SPAN)
    interfering = iter([True, False])

    def interfered(pipeline: Any) -> None:
        if next(interfering):
            other.set("{foo}n", 10)
        increment(pipeline)

    client.set("{foo}n", 1)
    assert client.transaction(interfered, "{foo}n") == [True, b"11"]


def test_a_changed_key_is_no_failure_to_the_span(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    client.set("foo", "changed")
    pipeline.multi()
    pipeline.set("foo", "mine")
    with pytest.raises(redis.WatchError):
        pipeline.execute()
    assert spans.all[-1].status.status_code is StatusCode.UNSET


def test_a_transaction_follows_a_moved_slot(
    client: MonitoredRedisClusterConnection, cluster: Cluster, spans: RecordedSpans
) -> None:
    client.set("foo", 1)
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    cluster.migrate_slot(slot, source, another(cluster, source))
    spans.clear()
    assert client.pipeline(transaction=True).incr("foo").execute() == [2]
    assert spans.names == ["foo.pipeline"]


def test_a_slot_that_moves_while_a_key_is_watched_is_a_watch_error(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    client.set("foo", 1)
    source = cluster.node_of("foo")
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    cluster.migrate_slot(cluster.slot_of("foo"), source, another(cluster, source))
    with pytest.raises(redis.WatchError):  # where it is now, nobody watches it
        pipeline.get("foo")
    assert client.connection_pool.stats.in_use == 0


def test_a_transaction_whose_slot_moves_while_it_reads_is_tried_again(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    client.set("{foo}n", 1)
    moves = [another(cluster, cluster.node_of("{foo}n"))]
    others = [5]

    def interfered(pipeline: Any) -> None:
        if moves:
            source, slot = cluster.node_of("{foo}n"), cluster.slot_of("{foo}n")
            cluster.migrate_slot(slot, source, moves.pop())
        value = int(pipeline.get("{foo}n"))
        if others:
            cluster.node_of("{foo}n").client.set("{foo}n", others.pop())
        pipeline.multi()
        pipeline.set("{foo}n", value + 1)

    client.transaction(interfered, "{foo}n")
    assert client.get("{foo}n") == b"6"


@pytest.mark.parametrize("ends", ["executed", "reset", "refused"])
def test_a_transaction_outlives_a_node_that_leaves_and_comes_back(
    client: MonitoredRedisClusterConnection, cluster: Cluster, ends: str
) -> None:
    client.set("foo", 1)
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    left = client.get_node_from_key("foo")
    manager = client.nodes_manager
    manager.nodes_cache = {k: node for k, node in manager.nodes_cache.items() if k != left.name}
    manager.initialize()
    pipeline.multi()
    pipeline.incr("foo")
    if ends == "executed":
        assert pipeline.execute() == [2]
    elif ends == "refused":
        source = cluster.node_of("foo")
        cluster.migrate_slot(cluster.slot_of("foo"), source, another(cluster, source))
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    pipeline.reset()
    assert left.redis_connection.connection_pool.stats.in_use == 0


@pytest.mark.parametrize("moved", [["{foo}1", "{foo}2"], ["{foo}1"]])
def test_a_transaction_waits_while_its_slot_migrates(
    client: MonitoredRedisClusterConnection, cluster: Cluster, moved: list[str]
) -> None:
    for name in ("{foo}1", "{foo}2"):
        client.set(name, name)
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, *moved)  # ASK with both, else TRYAGAIN
    later = threading.Timer(0.1, cluster.finish_migration, (slot, source, target))
    later.start()
    pipeline = client.pipeline(transaction=True)
    pipeline.execute_command("MGET", "{foo}1", "{foo}2")
    assert pipeline.execute() == [[b"{foo}1", b"{foo}2"]]
    later.join()


def test_a_transaction_in_a_slot_that_migrates_sends_nobody_elsewhere(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set("foo", "bar")
    source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "foo")
    monkeypatch.setattr("redis.retry.sleep", lambda seconds: None)
    with pytest.raises(redis.exceptions.AskError):
        client.pipeline(transaction=True).get("foo").execute()
    assert client.nodes_manager.get_node_from_slot(slot).port == source.port
    cluster.finish_migration(slot, source, target)


def test_a_transaction_that_is_refused_while_it_watches_is_not_executed_unguarded(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("{foo}1", "{foo}2"):
        client.set(name, name)
    source, slot = cluster.node_of("{foo}1"), cluster.slot_of("{foo}1")
    target = another(cluster, source)
    cluster.begin_migration(slot, source, target)
    cluster.move_keys(slot, source, target, "{foo}1")
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("{foo}2")
    pipeline.multi()
    pipeline.execute_command("MSET", "{foo}1", "mine", "{foo}2", "mine")
    waits: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", waits.append)
    with pytest.raises(redis.exceptions.TryAgainError):
        pipeline.execute()
    assert not waits
    cluster.finish_migration(slot, source, target)


@pytest.mark.parametrize("loses", ["a reply", "its connection"])
def test_a_transaction_that_lost_its_connection_watches_no_longer(
    client: MonitoredRedisClusterConnection,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    loses: str,
) -> None:
    client.set("foo", 1)
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    if loses == "a reply":
        lost = _losing_replies(client, cluster.node_of("foo"), monkeypatch)
        with pytest.raises(redis.ConnectionError):
            pipeline.get("foo")
        lost.clear()
    else:
        pipeline.connection.disconnect()
    client.set("foo", "somebody else's")
    pipeline.multi()
    pipeline.set("foo", 2)
    with pytest.raises(redis.WatchError, match="lost"):
        pipeline.execute()
    assert client.get("foo") == b"somebody else's"


def test_a_transaction_gives_its_connection_back(
    client: MonitoredRedisClusterConnection,
) -> None:
    client.transaction(increment, "{foo}n")
    with pytest.raises(ZeroDivisionError):
        client.transaction(lambda pipeline: 1 / 0, "{foo}n")
    assert client.connection_pool.stats.in_use == 0


def test_what_a_request_leaves_open_is_given_back(
    client: MonitoredRedisClusterConnection, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    subscriber = client.pubsub()
    subscriber.subscribe("channel")
    assert client.connection_pool.stats.in_use == 2
    client.give_back()
    assert client.connection_pool.stats.in_use == 0
    assert "MonitoredRedisClusterPipeline was left open" in caplog.text


# Errors


@pytest.mark.parametrize("how", ["command", "transaction"])
def test_keys_in_two_slots_fail_with_a_hint(
    client: MonitoredRedisClusterConnection, how: str
) -> None:
    pipeline = client.pipeline(transaction=True).set("a", 1).set("b", 1)
    execute = pipeline.execute if how == "transaction" else lambda: client.mget("a", "b")
    with pytest.raises(
        RedisClusterException, match=r'common hash tag: "\{user:1\}:name"'
    ) as caught:
        execute()
    assert is_retryable(caught.value) is False


def test_a_script_whose_keys_are_in_two_slots_fails_with_a_hint(
    client: MonitoredRedisClusterConnection,
) -> None:
    with pytest.raises(RedisClusterException, match="common hash tag"):
        client.eval("return 1", 2, "a", "b")


def test_keys_that_are_watched_in_two_slots_fail_with_a_hint(
    client: MonitoredRedisClusterConnection,
) -> None:
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch("foo")
        with pytest.raises(RedisClusterException, match="hash tag"):
            pipeline.watch("bar")


def test_a_transactions_command_with_keys_in_two_slots_fails_with_a_hint(
    client: MonitoredRedisClusterConnection,
) -> None:
    with pytest.raises(RedisClusterException, match="hash tag"):
        client.pipeline(transaction=True).execute_command("RENAME", "foo", "bar")


@pytest.mark.parametrize(
    "send",
    [
        lambda client: client.execute_command("HELLO", "3", "AUTH", "user", SECRET),
        lambda client: client.execute_command("EVAL", SECRET),
        lambda client: client.pipeline().config_set("requirepass", SECRET).execute(),
        lambda client: client.pipeline(transaction=True).execute_command("HELLO", "3", SECRET),
    ],
)
def test_an_error_that_quotes_a_command_shows_no_secret(
    client: MonitoredRedisClusterConnection, send: Callable[[Any], Any]
) -> None:
    with pytest.raises(RedisClusterException) as raised:
        send(client)
    assert SECRET not in str(raised.value)


def test_a_cluster_that_nobody_answers_for_is_told_by_name_and_without_a_secret(
    make: MakeClusterClient,
) -> None:
    client = make(f"redis+cluster://:{SECRET}@127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(RedisClusterException, match=r"foo: .*127\.0\.0\.1:[12]") as caught:
        client.get("a")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ClusterDownError("CLUSTERDOWN The cluster is down"), True),
        (redis.exceptions.TryAgainError("TRYAGAIN"), True),
        (redis.exceptions.SlotNotCoveredError("slot"), True),
        (redis.exceptions.ClusterError("TTL exhausted."), True),
        (RedisClusterException("Redis Cluster cannot be connected. Please ..."), None),
        (RedisClusterException("MGET - all keys must map to the same key slot"), False),
    ],
)
def test_which_of_a_clusters_errors_are_retryable(error: Exception, retryable: bool | None) -> None:
    assert is_retryable(error) is retryable


def test_an_empty_pool_of_a_node_says_so(cluster: Cluster, make: MakeClusterClient) -> None:
    client = make(cluster, max_connections="1", pool_timeout="20 milliseconds")
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")
    with pytest.raises(PoolTimeoutError, match=f"all 1 to 127.0.0.1:{cluster.node_of('foo').port}"):
        client.get("foo")
    pipeline.reset()
    assert client.get("foo") is None


def test_what_a_node_may_have_executed_is_not_sent_again(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("foo")
    lost = _losing_replies(client, cluster.node_of("foo"), monkeypatch)
    with pytest.raises(redis.ConnectionError):
        client.incr("foo")
    lost.clear()
    assert client.get("foo") == b"1"


def test_what_a_node_may_have_executed_of_a_pipeline_is_not_sent_again(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("foo")
    lost = _losing_replies(client, cluster.node_of("foo"), monkeypatch)
    with pytest.raises(redis.ConnectionError):
        client.pipeline().incr("foo").incr("foo").execute()
    lost.clear()
    assert client.get("foo") == b"2"


def test_reads_are_tried_again_where_the_settings_say_so(
    cluster: Cluster, make: MakeClusterClient, monkeypatch: pytest.MonkeyPatch, spans: RecordedSpans
) -> None:
    client = make(cluster, retries="3")
    client.set("foo", "bar")
    lost = _losing_replies(client, cluster.node_of("foo"), monkeypatch)
    lost[:] = lost[:1]
    spans.clear()
    assert client.get("foo") == b"bar"
    (span,) = spans.all
    assert span.attributes["redis.client.operation.retry_attempts"] == 1


def test_a_transaction_that_only_reads_is_tried_again_as_a_whole(
    cluster: Cluster, make: MakeClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(cluster, retries="3")
    client.mset_nonatomic({"{foo}1": "a", "{foo}2": "b"})
    lost = _losing_replies(client, cluster.node_of("{foo}1"), monkeypatch)
    lost[:] = lost[:1]
    pipeline = client.pipeline(transaction=True)
    assert pipeline.get("{foo}1").get("{foo}2").execute() == [b"a", b"b"]


def _losing_replies(
    client: MonitoredRedisClusterConnection, node: Node, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Lose that many of a node's replies; each behind the command's execution."""
    from pyramid_baseplate_redis.pool.connection import PooledConnection

    left = [1] * 50
    read = PooledConnection.read_response

    def lose(connection: Any, *args: Any, **kwargs: Any) -> Any:
        response = read(connection, *args, **kwargs)
        if left and connection.is_node and connection._ready and connection.port == node.port:
            left.pop()
            connection.disconnect()
            raise redis.ConnectionError("the reply was lost")
        return response

    monkeypatch.setattr(PooledConnection, "read_response", lose)
    return left


def test_an_interrupted_transaction_reads_no_reply_that_isnt_its_own(
    client: MonitoredRedisClusterConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set("foo", "bar")
    pipeline = client.pipeline(transaction=True)
    pipeline.watch("foo")

    class Interrupted(BaseException):
        pass

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.connection, "read_response", interrupted)
        with pytest.raises(Interrupted):
            pipeline.get("foo")
    with pytest.raises(redis.WatchError, match="interrupted"):
        pipeline.get("foo")
    assert client.connection_pool.stats.in_use == 0


def test_a_cursor_goes_where_the_aggregate_went(client: MonitoredRedisClusterConnection) -> None:
    with pytest.raises(RedisClusterException, match="without FT"):
        client.execute_command("FT.CURSOR", "READ", "index", 1)
    for command in (("FT.AGGREGATE", "index", "*"), ("FT.CURSOR", "READ", "index", 1)):
        with pytest.raises(redis.ResponseError, match="unknown command"):  # without the module
            client.bound_to(INVALID_SPAN).execute_command(*command)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.hgetall("h"),
        lambda client: client.zrange("z", 0, -1, withscores=True),
        lambda client: client.execute_command("get", "a"),
        lambda client: client.execute_command(b"GET", "a"),
        lambda client: client.hscan("h"),
        lambda client: client.object("encoding", "a"),
        lambda client: client.get(1),
        lambda client: client.sort("l"),
        lambda client: client.xadd("stream", {"a": 1}, id="1-1"),
        lambda client: client.eval("return KEYS[1]", 1, "a"),
        lambda client: client.mget("a"),
        lambda client: client.cluster_keyslot("a"),
        lambda client: client.ping(),
        lambda client: client.set("a", 1, get=True),
        lambda client: client.lpop("l", 2),
        lambda client: client.exists("a", "b"),
        lambda client: client.type("a"),
        lambda client: client.execute_command("GET"),
        lambda client: client.execute_command("NOSUCH", "a"),
    ],
)
def test_results_and_errors_are_redis_pys(
    client: MonitoredRedisClusterConnection, cluster: Cluster, ask: Callable[[Any], Any]
) -> None:
    def asked(asked_client: Any) -> Any:
        for node in cluster.primaries():
            node.client.flushall()
        asked_client.mset_nonatomic({"a": 1, "b": 2})
        asked_client.hset("h", "field", "value")
        asked_client.zadd("z", {"one": 1})
        asked_client.rpush("l", 3, 1, 2)
        try:
            return ask(asked_client)
        except Exception as error:
            return type(error), str(error)

    nodes = [ClusterNode(node.host, node.port) for node in cluster.nodes]
    with RedisCluster(startup_nodes=nodes) as plain:
        assert asked(client) == asked(plain)


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


# Queues, locks, subscribers, hot keys


def test_a_message_queue_works(
    client: MonitoredRedisClusterConnection, spans: RecordedSpans
) -> None:
    queue = client.message_queue("jobs")
    queue.put("first")
    queue.put(b"second")
    assert (queue.get(), queue.get(timeout=0)) == (b"first", b"second")
    assert spans.names == ["foo.RPUSH", "foo.RPUSH", "foo.BLPOP", "foo.LPOP"]
    with pytest.raises(TimedOutError):
        queue.get(timeout=1)


def test_to_make_a_queue_opens_nothing(make: MakeClusterClient) -> None:
    client = make("redis+cluster://127.0.0.1:1")
    client.message_queue("jobs")
    MessageQueue("jobs", client)


def test_the_first_message_of_a_process_comes_from_the_queues_node(
    cluster: Cluster, make: MakeClusterClient, spans: RecordedSpans
) -> None:
    client = make(cluster)
    node = cluster.node_of("jobs")
    node.client.rpush("jobs", "message")
    assert client.message_queue("jobs").get(timeout=5) == b"message"
    (span,) = spans.all
    assert server_of(span) == ("127.0.0.1", node.port)


def test_a_message_is_bytes_whatever_the_client_decodes(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    queue = make(cluster, decode_responses="true").message_queue("jobs")
    queue.put(b"\xff")
    assert queue.get() == b"\xff"


def test_a_queue_may_wait_for_longer_than_the_socket_timeout(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, socket_timeout="1 second")
    queue = client.message_queue("jobs")
    late = threading.Timer(2.5, cluster.node_of("jobs").client.rpush, ("jobs", "late"))
    late.start()
    assert queue.get(timeout=10) == b"late"
    late.join()


def test_a_queue_follows_its_slot(
    client: MonitoredRedisClusterConnection, cluster: Cluster
) -> None:
    queue = client.message_queue("jobs")
    queue.put("moves")
    source, slot = cluster.node_of("jobs"), cluster.slot_of("jobs")
    cluster.migrate_slot(slot, source, another(cluster, source))
    assert queue.get(timeout=2) == b"moves"


def test_a_queue_takes_a_plain_client_of_a_cluster(
    client: MonitoredRedisClusterConnection,
) -> None:
    queue = MessageQueue("jobs", client.connection_pool.cluster())
    queue.put("message")
    assert queue.get(timeout=2) == b"message"


def test_a_lock_works(client: MonitoredRedisClusterConnection) -> None:
    with client.lock("nightly", timeout=5):
        assert not client.lock("nightly", timeout=5, blocking=False).acquire()
    assert client.lock("nightly", timeout=5, blocking=False).acquire()


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
