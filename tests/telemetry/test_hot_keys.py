"""Hot keys: the keys that are counted, where they are stored, and the top n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    ConfigurationError,
    MessageQueue,
    MonitoredRedisConnection,
    RedisClient,
    RedisContextFactory,
    hot_keys,
    pool_from_config,
)
from pyramid_baseplate_redis.telemetry.hot_keys.tracker import HotKeyTracker

from ..support.hot_key_sets import ALL, READS, WRITES, counted, in_sets, module, tracker_of
from ..support.servers import MakeClient, Server, wait_until
from ..support.topologies import Cluster, SentinelSet

Commands = Callable[[Any], object]


@pytest.fixture
def client(server: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    return make_client(server, **ALL)


@pytest.fixture
def valkey_client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    return make_client(valkey, **ALL)


# What is counted


def test_at_100_percent_every_command_is_counted(
    client: MonitoredRedisConnection, server: Server
) -> None:
    for _ in range(200):
        client.get("a")
    for _ in range(100):
        client.set("b", "value")
    assert counted(server, client) == ({"a": 200}, {"b": 100})


def test_at_0_percent_there_is_no_tracker(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(
        valkey, track_key_reads_sample_rate="0%", track_key_writes_sample_rate="0%"
    )
    assert client.connection_pool.hot_keys is None


def test_by_default_there_is_no_tracker(make_client: MakeClient, valkey: Server) -> None:
    assert make_client(valkey).connection_pool.hot_keys is None


@pytest.mark.parametrize(
    ("sampled", "expected"), [("reads", ({"a": 1}, {})), ("writes", ({}, {"a": 1}))]
)
def test_reads_and_writes_have_rates_of_their_own(
    make_client: MakeClient, valkey: Server, sampled: str, expected: Any
) -> None:
    client = make_client(valkey, **{f"track_key_{sampled}_sample_rate": "100%"})
    client.set("a", 1)
    client.get("a")
    assert counted(valkey, client) == expected


def test_about_the_given_share_of_the_commands_is_counted() -> None:
    tracker = HotKeyTracker(lambda: None, 0.1, 0.1)
    tracker._start = lambda process: None  # type: ignore[method-assign]
    for _ in range(5000):
        tracker.sample(("GET", "a"))
    assert 350 < len(tracker._process().commands) < 650


KEYS: dict[str, tuple[Commands, set[str], set[str]]] = {
    "GET": (lambda c: c.get("a"), {"a"}, set()),
    "get, in small letters": (lambda c: c.execute_command("get", "a"), {"a"}, set()),
    "bytes": (lambda c: c.execute_command(b"GET", b"a"), {"a"}, set()),
    "a number": (lambda c: c.get(7), {"7"}, set()),
    "SET": (lambda c: c.set("a", "v"), set(), {"a"}),
    "MGET": (lambda c: c.mget("a", "b"), {"a", "b"}, set()),
    "MSET": (lambda c: c.mset({"a": "v", "b": "w"}), set(), {"a", "b"}),
    "BITOP": (lambda c: c.bitop("AND", "a", "b", "c"), set(), {"a", "b", "c"}),
    "EVAL": (lambda c: c.eval("return 1", 2, "a", "b", "v"), set(), {"a", "b"}),
    "EVAL_RO": (lambda c: c.eval_ro("return 1", 1, "a", "v"), {"a"}, set()),
    "EVAL without keys": (lambda c: c.eval("return 1", 0, "v"), set(), set()),
    "XREAD": (lambda c: c.xread({"a": 0, "b": 0}), {"a", "b"}, set()),
    "ZUNIONSTORE": (lambda c: c.zunionstore("a", ["b", "c"]), set(), {"a", "b", "c"}),
    "PFCOUNT": (lambda c: c.pfcount("a"), {"a"}, set()),
    "OBJECT ENCODING": (lambda c: c.object("ENCODING", "a"), {"a"}, set()),
    "MEMORY USAGE": (lambda c: c.memory_usage("a"), {"a"}, set()),
    "XGROUP CREATE": (lambda c: c.xgroup_create("a", "g", mkstream=True), set(), {"a"}),
    "PING": (lambda c: c.ping(), set(), set()),
    "PUBLISH": (lambda c: c.publish("a", "v"), set(), set()),
    "CONFIG GET": (lambda c: c.config_get("a"), set(), set()),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("table", ["before the table is read", "behind it"])
def test_the_keys_are_those_that_the_server_says(
    client: MonitoredRedisConnection, server: Server, table: str, name: str
) -> None:
    command, reads, writes = KEYS[name]
    if table == "behind it":
        client.get("a")
        tracker_of(client).flush()
        with redis.Redis(port=server.port) as plain:
            plain.flushall()
    command(client)
    found = counted(server, client)
    assert (set(found[0]), set(found[1])) == (reads, writes)


@pytest.mark.parametrize("transaction", [True, False])
def test_each_command_of_a_pipeline_is_counted(
    client: MonitoredRedisConnection, server: Server, transaction: bool
) -> None:
    with client.pipeline("p", transaction=transaction) as pipeline:
        pipeline.get("a").get("a").set("b", 1).execute()
    assert counted(server, client) == ({"a": 2}, {"b": 1})


def test_what_a_transaction_reads_before_multi_is_counted(
    client: MonitoredRedisConnection, server: Server
) -> None:
    def change(pipeline: Any) -> None:
        pipeline.get("a")
        pipeline.multi()
        pipeline.set("b", 1)

    client.transaction(change, "a")
    assert counted(server, client) == ({"a": 1}, {"b": 1})


def test_the_pipeline_of_a_module_is_counted(
    client: MonitoredRedisConnection, server: Server
) -> None:
    client.json().pipeline(transaction=False).set("a", "$", 1).get("b")
    pipeline = client.json().pipeline(transaction=False)
    pipeline.execute_command("GET", "a")
    pipeline.execute()
    assert counted(server, client)[0] == {"a": 1}


@pytest.mark.parametrize("of_pool", [True, False])
def test_a_message_queue_is_counted(
    client: MonitoredRedisConnection, server: Server, of_pool: bool
) -> None:
    queue = MessageQueue("jobs", client.connection_pool if of_pool else client)
    queue.put("work")
    queue.get(timeout=0)
    queue.put("work")
    queue.get(timeout=1)
    assert counted(server, client)[1] == {"jobs": 4}


def test_the_clients_of_all_requests_share_a_tracker(valkey: Server) -> None:
    settings = {"foo.url": valkey.url, "foo.track_key_reads_sample_rate": "100%"}
    factory: RedisContextFactory = RedisClient().parse("foo", settings)
    for _ in range(3):
        factory.make_object_for_context("foo", None).get("a")
    factory.connection_pool.hot_keys.flush()  # type: ignore[attr-defined]
    assert in_sets(valkey)[0] == {"a": 3}


def test_a_command_that_the_server_does_not_know_is_not_counted(
    client: MonitoredRedisConnection, server: Server
) -> None:
    with pytest.raises(redis.ResponseError):
        client.execute_command("NOSUCHCOMMAND", "a")
    assert counted(server, client) == ({}, {})


def test_a_malformed_command_does_not_keep_the_others_from_being_counted(
    client: MonitoredRedisConnection, server: Server
) -> None:
    for args in [("EVALSHA", "x"), ("GET",), ("XREAD", "a")]:
        with pytest.raises(redis.ResponseError):
            client.execute_command(*args)
    client.get("a")
    assert counted(server, client)[0] == {"a": 1}


def test_a_key_that_can_not_be_sent_does_not_keep_the_others_from_being_counted(
    client: MonitoredRedisConnection, server: Server
) -> None:
    with pytest.raises(UnicodeEncodeError):
        client.get("\ud800")
    client.get("a")
    assert counted(server, client)[0] == {"a": 1}


def test_the_sets_themselves_are_not_counted(
    client: MonitoredRedisConnection, server: Server
) -> None:
    client.get("a")
    tracker_of(client).flush()
    hot_keys(client)
    assert counted(server, client)[0] == {"a": 1}


def test_a_key_longer_than_1024_characters_is_not_counted(
    client: MonitoredRedisConnection, server: Server
) -> None:
    client.mget("k" * 1024, "k" * 1025)
    assert counted(server, client)[0] == {"k" * 1024: 1}


@pytest.mark.parametrize("args", [("RENAME", "a"), ("MSET",), ("OBJECT", 7, "a")])
def test_a_malformed_command_has_the_servers_error(
    client: MonitoredRedisConnection, args: tuple[Any, ...]
) -> None:
    client.get("a")
    tracker_of(client).flush()
    with pytest.raises(redis.ResponseError):
        client.execute_command(*args)


# On the server


@pytest.mark.parametrize("name", [READS, WRITES])
def test_the_sets_expire_a_day_after_the_last_sample(
    valkey_client: MonitoredRedisConnection, valkey: Server, name: str
) -> None:
    valkey_client.set("a", 1)
    valkey_client.get("a")
    tracker_of(valkey_client).flush()
    with redis.Redis(port=valkey.port) as plain:
        assert 24 * 3600 - 60 < plain.ttl(name) <= 24 * 3600


def test_the_sets_keep_no_more_than_the_keys_that_are_sampled_most(
    valkey_client: MonitoredRedisConnection, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_COUNTED", 2)
    for key in "aaabbc":
        valkey_client.get(key)
    assert counted(valkey, valkey_client)[0] == {"a": 3, "b": 2}


def test_samples_are_written_within_seconds_by_themselves(
    valkey_client: MonitoredRedisConnection, valkey: Server
) -> None:
    valkey_client.get("a")
    wait_until(lambda: in_sets(valkey)[0] == {"a": 1}, 5)


def test_a_request_takes_no_connection_for_it(valkey: Server, make_client: MakeClient) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="0 seconds", **ALL)
    client.get("a")
    held = client.connection_pool.get_connection()
    assert counted(valkey, client)[0] == {"a": 1}
    client.connection_pool.release(held)


def test_the_background_has_one_connection(valkey_client: MonitoredRedisConnection) -> None:
    plain = tracker_of(valkey_client)._make_client()
    assert plain.connection_pool.max_connections == 1
    plain.close()


def test_the_keyword_arguments_of_the_client_hold_for_the_background_too(valkey: Server) -> None:
    settings = {"foo.url": "redis://127.0.0.1:1", "foo.track_key_reads_sample_rate": "100%"}
    pool = pool_from_config(settings, "foo.", port=valkey.port, decode_responses=True)
    client = MonitoredRedisConnection("foo", None, pool)
    client.get("a")
    assert counted(valkey, client)[0] == {"a": 1}
    pool.disconnect()


# Other topologies


@pytest.mark.parametrize("read_from", ["primary", "replica"])
def test_behind_sentinel_the_primary_has_the_counts(
    sentinels: SentinelSet, make_client: MakeClient, read_from: str
) -> None:
    client = make_client(sentinels.url, read_from=read_from, **ALL)
    client.get("a")
    assert tracker_of(client).flush()
    with redis.Redis.from_url(sentinels.primary().url) as primary:
        assert hot_keys(primary) == [(b"a", 1)]


def test_a_cluster_has_the_counts_of_all_its_keys(cluster: Cluster) -> None:
    host, port = cluster.nodes[0].address.split(":")

    def made() -> redis.RedisCluster:
        return redis.RedisCluster(host, int(port))

    tracker = HotKeyTracker(made, 1.0, 1.0)
    for key in ("a", "b", "c"):
        tracker.sample(("GET", key))
        tracker.sample(("EVAL", "return 1", 1, key))
    assert tracker.flush()
    client = made()
    assert {key for key, _ in hot_keys(client)} == {b"a", b"b", b"c"}
    assert {key for key, _ in hot_keys(client, "writes")} == {b"a", b"b", b"c"}
    client.close()


# The top N


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [True, False])
def test_the_top_n_are_bytes_with_the_most_sampled_first(
    valkey: Server, protocol: int, decode_responses: bool
) -> None:
    with redis.Redis(
        port=valkey.port, protocol=protocol, decode_responses=decode_responses
    ) as client:
        client.zadd(WRITES, {b"\xff": 3, "b": 2, "c": 1})
        assert hot_keys(client, "writes", 2) == [(b"\xff", 3.0), (b"b", 2.0)]


def test_a_monitored_client_gives_the_top_n_too(valkey: Server, make_client: MakeClient) -> None:
    client = make_client(valkey, decode_responses="true")
    client.zadd(READS, {"a": 1})
    (top,) = hot_keys(client)
    assert (top.key, top.samples) == (b"a", 1.0)


def test_there_are_no_hot_keys_where_nothing_was_sampled(valkey: Server) -> None:
    with redis.Redis(port=valkey.port) as client:
        assert hot_keys(client) == []


@pytest.mark.parametrize(("kind", "count"), [("others", 10), ("reads", 0)])
def test_a_wrong_kind_or_count_is_refused(kind: str, count: int) -> None:
    with pytest.raises(ValueError, match=r"^(kind|count): "):
        hot_keys(redis.Redis(), kind, count)


# Settings


@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_a_rate_without_a_unit_is_an_error_that_names_the_key(kind: str) -> None:
    key = f"foo.track_key_{kind}_sample_rate"
    with pytest.raises(ConfigurationError) as caught:
        pool_from_config({"foo.url": "redis://localhost", key: "1"}, "foo.")
    assert str(caught.value) == (
        f'{key}: \'1\' has no unit; write a percentage from 0% to 100%, such as "1%" or "0.5%"'
    )
