"""A Cluster's pipelines: their results, and one span each."""

from __future__ import annotations

import threading

import pytest
import redis
from opentelemetry.trace import StatusCode

from pyramid_baseplate_redis import MonitoredRedisClusterConnection

from ..support.servers import RecordedSpans
from ..support.topologies import Cluster
from .conftest import MakeClusterClient, another, losing_replies, one_key_each, server_of


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
    losing_replies(client, silent, monkeypatch)
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


class _Interrupted(BaseException):
    """An exception of a signal handler, or of a greenlet that is killed."""


def test_an_interruption_of_a_release_reaches_the_caller(
    client: MonitoredRedisClusterConnection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = one_key_each(cluster)[:2]
    by_port = {pool.connection_kwargs["port"]: pool for pool in client.connection_pool.pools}
    reached, unreached = (by_port[cluster.node_of(name).port] for name in names)
    release = reached.release

    def release_and_interrupt(connection: object) -> None:
        release(connection)
        raise _Interrupted

    def refuse() -> None:
        raise redis.ConnectionError

    monkeypatch.setattr(reached, "release", release_and_interrupt)
    monkeypatch.setattr(unreached, "get_connection", refuse)
    with pytest.raises(_Interrupted):
        client.mset_nonatomic(dict.fromkeys(names, "value"))
    assert reached.stats.in_use == 0


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
