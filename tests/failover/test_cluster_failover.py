"""A Cluster under load while a replica takes over and a slot moves: all goes on by itself."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ClusterDownError

from pyramid_baseplate_redis import MonitoredRedisClusterConnection, cluster_pool_from_config

from ..faults.everywhere import everywhere, runs_under
from ..faults.test_interruptions import Interrupted, interrupted_often
from ..support.servers import wait_until
from ..support.topologies import Cluster, running_cluster

pytestmark = pytest.mark.slow("failovers take seconds")

# CLUSTERDOWN is what the nodes that are left say until a replica has taken over.
PASSING = (redis.ConnectionError, redis.TimeoutError, ClusterDownError)
THREADS = 8
SAFE_SECONDS = 0.25  # what was acknowledged that long before a kill was replicated


class Load:
    """Threads that write and read keys of all slots; each reply has to be its question's."""

    def __init__(self, client: MonitoredRedisClusterConnection) -> None:
        self.client = client
        self.stopped = threading.Event()
        self.acknowledged: dict[str, float] = {}
        self.errors: list[tuple[float, BaseException]] = []
        self.wrong: list[Any] = []
        self.successes = 0
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        client = self.client.bound_to(self.client.server_span)
        count = 0
        while not self.stopped.is_set():
            count += 1
            key = f"{number}:{count}"
            try:
                client.set(key, key)
                self.acknowledged[key] = time.monotonic()
                found = [client.get(key)]
                if count % 5 == 0:
                    found = client.pipeline("both").get(key).getrange(key, 0, -1).execute()
                if any(each != key.encode() for each in found):
                    self.wrong.append((key, found))
                self.successes += 1
            except Exception as error:
                self.errors.append((time.monotonic(), error))
                time.sleep(0.01)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()

    def lost(self, before: float) -> list[str]:
        """Keys that were acknowledged before a time, and that aren't there."""
        keys = [key for key, at in self.acknowledged.items() if at < before]
        lost = []
        for start in range(0, len(keys), 1000):
            some = keys[start : start + 1000]
            values = self.client.mget_nonatomic(some)
            lost += [key for key, value in zip(some, values, strict=True) if value is None]
        return lost

    def kinds(self) -> Counter[str]:
        return Counter(type(error).__name__ for _, error in self.errors)


def client_of(cluster: Cluster, **settings: str) -> MonitoredRedisClusterConnection:
    own = {f"foo.{key}": value for key, value in settings.items()}
    pool = cluster_pool_from_config({"foo.url": cluster.url, **own}, "foo.")
    return MonitoredRedisClusterConnection("foo", None, pool)


def all_slots_are_back(client: MonitoredRedisClusterConnection) -> bool:
    figures = client.connection_pool.stats
    return figures.in_use == figures.waiting == 0


def test_all_goes_on_when_a_replica_takes_over_and_then_a_slot_moves(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_of(cluster, socket_timeout="1 second")
    load = Load(client)
    try:
        wait_until(lambda: load.successes > 500)
        killed_at = time.monotonic()
        old = cluster.node_of("foo")
        old.kill()
        cluster.wait_for_new_primary(old)
        promoted_at = time.monotonic()
        time.sleep(1)
        errors_of_the_failover = len(load.errors)

        source, slot = cluster.node_of("foo"), cluster.slot_of("foo")
        client.mset_nonatomic({f"{{foo}}{number}": number for number in range(200)})
        target = next(node for node in cluster.primaries() if node is not source)
        cluster.begin_migration(slot, source, target)
        cluster.move_keys(slot, source, target, *[f"{{foo}}{number}" for number in range(100)])
        assert [client.get(f"{{foo}}{number}") for number in (5, 150)] == [b"5", b"150"]
        cluster.finish_migration(slot, source, target)
        assert [client.get(f"{{foo}}{number}") for number in (5, 150)] == [b"5", b"150"]
        time.sleep(0.5)
    finally:
        load.stop()

    late = [error for at, error in load.errors if at > promoted_at + 1]
    ended_at = max((at for at, _ in load.errors), default=killed_at)
    with capsys.disabled():
        print(  # noqa: T201  # for whoever reads the run
            f"\n{cluster.kind}: {len(load.acknowledged)} writes acknowledged, "
            f"{len(load.lost(time.monotonic()))} lost; errors {dict(load.kinds())}; the last one "
            f"{ended_at - killed_at:.2f} s behind the kill, all slots served behind "
            f"{promoted_at - killed_at:.2f} s"
        )
    assert load.wrong == []
    assert [error for _, error in load.errors if not isinstance(error, PASSING)] == []
    assert errors_of_the_failover > 0
    assert late == []
    assert load.lost(killed_at - SAFE_SECONDS) == []
    wait_until(lambda: all_slots_are_back(client))
    client.connection_pool.disconnect()


def watch_and_set(client: Any) -> Any:
    def set_it(pipeline: Any) -> None:
        pipeline.get("foo")
        pipeline.multi()
        pipeline.set("foo", "bar")

    client.transaction(set_it, "foo")


FIRST_COMMANDS: dict[str, Callable[[Any], Any]] = {
    "a write": lambda client: client.set("foo", "bar"),
    "several keys": lambda client: client.delete("{foo}1", "{foo}2"),
    "a script": lambda client: client.eval("return redis.call('INCR', KEYS[1])", 1, "{foo}n"),
    "a command without a key": lambda client: client.ping(),
    "a pipeline": lambda client: client.pipeline().incr("{foo}n").get("{foo}n").execute(),
    "a pipeline to several nodes": lambda client: client.mset_nonatomic({"foo": 1, "a": 2, "b": 3}),
    "a transaction": lambda client: client.pipeline(transaction=True).incr("{foo}n").execute(),
    "a watched key": watch_and_set,
    "a lock": lambda client: client.lock("foo", timeout=9).acquire(blocking=False),
}


def test_the_first_command_after_a_finished_failover_succeeds_as_in_redis_py(
    cluster: Cluster,
) -> None:
    ours = {name: client_of(cluster) for name in FIRST_COMMANDS}
    nodes = [ClusterNode(node.host, node.port) for node in cluster.nodes]
    plain = {name: RedisCluster(startup_nodes=nodes[:]) for name in FIRST_COMMANDS}
    for client in (*ours.values(), *plain.values()):
        client.get("foo")
    old = cluster.node_of("foo")
    old.kill()
    cluster.wait_for_new_primary(old)
    for clients in (plain, ours):
        for name, command in FIRST_COMMANDS.items():
            cluster.node_of("foo").client.flushall()
            try:
                command(clients[name])
            except Exception as error:
                raise AssertionError(f"{name} failed with {clients[name]}") from error
    assert all(all_slots_are_back(client) for client in ours.values())
    for client in ours.values():
        client.connection_pool.disconnect()
    for client in plain.values():
        client.close()


def test_a_frozen_node_costs_one_timeout_and_no_wrong_reply(cluster: Cluster) -> None:
    client = client_of(cluster, socket_timeout="500 milliseconds", max_connections="4")
    client.set("foo", "bar")
    node = cluster.node_of("foo")
    node.freeze()
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        client.get("foo")
    seconds = time.monotonic() - started
    cluster.wait_for_new_primary(node)
    wait_until(lambda: _succeeds(lambda: client.get("foo") == b"bar"))
    node.thaw()
    cluster.wait_until_healthy()
    assert client.get("foo") == b"bar"
    assert seconds < 2.5  # its own, and one of the layout's first connections
    client.connection_pool.disconnect()


def _succeeds(ask: Any) -> bool:
    try:
        return bool(ask())
    except PASSING:
        return False


def test_a_queue_is_served_by_the_node_that_takes_over(cluster: Cluster) -> None:
    client = client_of(cluster, socket_timeout="1 second")
    queue = client.message_queue("jobs")
    queue.put("before")
    assert queue.get() == b"before"
    taken: list[bytes] = []
    worker = threading.Thread(target=lambda: taken.append(queue.get()), daemon=True)
    worker.start()
    old = cluster.node_of("jobs")
    old.kill()
    cluster.wait_for_new_primary(old)
    producer = client_of(cluster)
    wait_until(lambda: _succeeds(lambda: producer.message_queue("jobs").put("after") is None))
    worker.join(30)
    assert taken == [b"after"]


@everywhere
def test_many_callers_at_once_get_their_own_replies(tmp_path: Path) -> None:
    with running_cluster("valkey", tmp_path) as cluster:
        client = client_of(cluster, max_connections="3", pool_timeout="20 seconds")
        load = Load(client)
        time.sleep(1.5)
        load.stop()
        assert (load.wrong, load.errors) == ([], [])
        assert load.successes > 100
        queue = client.message_queue("jobs")
        later = threading.Timer(0.2, queue.put, ["message"])
        later.start()
        assert queue.get(timeout=5) == b"message"
        wait_until(lambda: all_slots_are_back(client))
        assert all(len(pool._connections) <= 3 for pool in client.connection_pool.pools)


def ask_one(client: MonitoredRedisClusterConnection, text: str) -> None:
    client.set(text, text)
    assert client.get(text) == text.encode()


def ask_several(client: MonitoredRedisClusterConnection, text: str) -> None:
    keys = [f"{text}:{number}" for number in range(4)]
    client.mset_nonatomic({key: key for key in keys})
    pipeline = client.pipeline()
    for key in keys:
        pipeline.get(key)
    assert pipeline.execute() == [key.encode() for key in keys]


def ask_in_transaction(client: MonitoredRedisClusterConnection, text: str) -> None:
    def exchange(pipeline: Any) -> None:
        assert pipeline.get(text) is None
        pipeline.multi()
        pipeline.set(text, text)
        pipeline.get(text)

    assert client.transaction(exchange, text) == [True, text.encode()]


def ask_queue(client: MonitoredRedisClusterConnection, text: str) -> None:
    queue = client.message_queue(text)
    queue.put(text)
    assert queue.get(timeout=1) == text.encode()


QUESTIONS = {
    "one": ask_one,
    "several": ask_several,
    "transaction": ask_in_transaction,
    "queue": ask_queue,
}


@runs_under("process")
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_signal_at_any_point_costs_no_reply_and_no_slot(tmp_path: Path, question: str) -> None:
    with running_cluster("valkey", tmp_path) as cluster:
        client = client_of(cluster, max_connections="3")
        asked = iter(range(10**9))

        def ask() -> None:
            QUESTIONS[question](client, f"key:{next(asked)}")

        ask()
        count = interrupted_often(ask, Interrupted)
        gc.collect()
        for _ in range(20):
            ask()
        assert all_slots_are_back(client)
        assert count > 50
