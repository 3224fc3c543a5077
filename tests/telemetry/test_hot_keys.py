"""Hot keys: what is counted, where, and that no request ever notices."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry.instrumentation.redis import RedisInstrumentor

from pyramid_baseplate_redis import (
    ConfigurationError,
    MessageQueue,
    MonitoredRedisConnection,
    RedisClient,
    RedisContextFactory,
    hot_keys,
    pool_from_config,
)
from pyramid_baseplate_redis.telemetry.hot_keys import HotKeyTracker

from ..faults.everywhere import runs_under
from ..faults.helpers import in_child
from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    free_port,
    running_server,
    wait_until,
)
from ..support.topologies import Cluster, SentinelSet

READS, WRITES = "baseplate-hot-key-tracker-reads", "baseplate-hot-key-tracker-writes"
ALL = {"track_key_reads_sample_rate": "100%", "track_key_writes_sample_rate": "100%"}
module: Any = importlib.import_module("pyramid_baseplate_redis.telemetry.hot_keys")
Commands = Callable[[Any], object]


def tracker_of(client: MonitoredRedisConnection) -> HotKeyTracker:
    tracker = client.connection_pool.hot_keys
    assert isinstance(tracker, HotKeyTracker)
    return tracker


def counted(server: Server, client: MonitoredRedisConnection) -> tuple[dict[str, float], ...]:
    """What is counted as read and as written once everything has been written."""
    assert tracker_of(client).flush()
    return in_sets(server)


def in_sets(server: Server) -> tuple[dict[str, float], ...]:
    with redis.Redis(port=server.port) as plain:
        return tuple(
            {key.decode(): samples for key, samples in hot_keys(plain, kind, 1000)}
            for kind in ("reads", "writes")
        )


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def client(server: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    return make_client(server, **ALL)


@pytest.fixture
def valkey_client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    return make_client(valkey, **ALL)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    with running_server("valkey", tmp_path) as server:
        yield server


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


# No spans


def test_the_background_makes_no_spans(
    valkey_client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    valkey_client.eval("return 1", 1, "a")
    tracker_of(valkey_client).flush()
    assert spans.names == ["foo.EVAL"]


def test_nor_does_it_where_opentelemetrys_instrumentation_is_active(
    valkey_client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    RedisInstrumentor().instrument()
    try:
        valkey_client.eval("return 1", 1, "a")
        tracker_of(valkey_client).flush()
    finally:
        RedisInstrumentor().uninstrument()
    assert spans.names == ["foo.EVAL"]


# Never able to fail a request


def test_a_dead_server_is_logged_once(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(f"redis://:s3cret@127.0.0.1:{free_port()}", **ALL)
    for _ in range(3):
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        assert not tracker_of(client).flush()
    assert warnings_of(caplog) == ["foo: cannot count hot keys: ConnectionError"]


def test_what_could_not_be_written_is_written_when_the_server_is_back(
    mortal: Server, make_client: MakeClient
) -> None:
    client = make_client(mortal, **ALL)
    client.get("a")
    tracker_of(client).flush()
    mortal.kill()
    with pytest.raises(redis.ConnectionError):
        client.get("b")  # behind the kill: the tracker's own thread can't have written it
    assert not tracker_of(client).flush()
    mortal.restart()
    assert counted(mortal, client)[0] == {"b": 1}


def test_a_read_only_server_still_serves_reads_and_is_logged_once(
    mortal: Server, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis(port=mortal.port) as plain:
        plain.set("a", "value")
        plain.config_set("replica-serve-stale-data", "yes")
        plain.replicaof("127.0.0.1", free_port())
    client = make_client(mortal, **ALL)
    for _ in range(3):
        assert client.get("a") == b"value"
        assert not tracker_of(client).flush()
    assert warnings_of(caplog) == ["foo: cannot count hot keys: ReadOnlyError READONLY"]


def test_a_full_server_still_serves_reads_and_is_logged_once(
    tmp_path: Path, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server("valkey", tmp_path, "--maxmemory", "1") as server:
        client = make_client(server, **ALL)
        for _ in range(3):
            assert client.get("a") is None
            assert not tracker_of(client).flush()
    assert warnings_of(caplog) == ["foo: cannot count hot keys: OutOfMemoryError OOM"]


def test_a_user_who_may_not_ask_for_keys_still_has_the_others_counted(
    mortal: Server, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis(port=mortal.port) as plain:
        plain.acl_setuser(
            "limited", enabled=True, passwords=["+s3cret"], keys=["*"],
            commands=["+@all", "-command|getkeys"],
        )  # fmt: skip
    client = make_client(f"redis://limited:s3cret@127.0.0.1:{mortal.port}", **ALL)
    for _ in range(2):
        client.get("a")
        client.eval("return 1", 1, "b")
        tracker_of(client).flush()
    assert in_sets(mortal) == ({"a": 2}, {})
    assert warnings_of(caplog) == ["foo: cannot count hot keys: NoPermissionError NOPERM"]


def test_what_is_sampled_beyond_the_most_is_left_out_and_logged_once(
    valkey_client: MonitoredRedisConnection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracker = tracker_of(valkey_client)
    monkeypatch.setattr(tracker, "_start", lambda process: None)
    valkey_client.get("a")
    tracker.flush()
    monkeypatch.setattr(module, "MOST_KEYS", 2)
    for _ in range(5):
        valkey_client.get("a")
    tracker._round()
    tracker._round()
    assert tracker.dropped == 3
    assert warnings_of(caplog) == ["foo: hot keys are sampled faster than they can be counted"]


def test_what_a_failed_flush_keeps_is_bounded(
    make_client: MakeClient, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(valkey, **ALL)
    client.get("a")
    tracker = tracker_of(client)
    tracker.flush()
    monkeypatch.setattr(module, "MOST_KEYS", 2)
    monkeypatch.setattr(module, "_write", lambda process: None)
    for key in "aabbcd":
        client.get(key)
        tracker.flush()
    assert tracker._process().counts["reads"] == {"a": 2, "b": 2}


class Value(str):
    """Text that can be referred to weakly."""


@pytest.mark.parametrize("table", ["before the table is read", "behind it"])
@pytest.mark.parametrize("command", [("SET", "a"), ("EVAL", "return 1", 1, "a")])
def test_a_big_value_is_not_kept_alive(
    valkey_client: MonitoredRedisConnection,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    command: tuple[Any, ...],
) -> None:
    tracker = tracker_of(valkey_client)
    monkeypatch.setattr(tracker, "_start", lambda process: None)
    if table == "behind it":
        valkey_client.get("a")
        tracker.flush()
    value = Value("v" * 1_000_000)
    reference = weakref.ref(value)
    valkey_client.execute_command(*command, value)
    assert tracker._process().is_pending
    del value
    gc.collect()
    assert reference() is None


# Processes and threads


def test_the_thread_ends_with_nothing_to_do_and_starts_again(
    valkey_client: MonitoredRedisConnection, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.02)
    process = tracker_of(valkey_client)._process()
    valkey_client.get("a")
    wait_until(lambda: not process.is_running)
    valkey_client.get("b")
    wait_until(lambda: in_sets(valkey)[0] == {"a": 1, "b": 1})


def test_the_thread_gives_its_connection_back_when_it_ends(
    mortal: Server, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.02)
    client = make_client(mortal, **ALL)
    with redis.Redis(port=mortal.port) as plain:
        client.get("a")
        wait_until(lambda: not tracker_of(client)._process().is_running)
        wait_until(lambda: len(plain.client_list()) == 2)  # this one, and the client's


def test_a_tracker_that_is_dropped_is_not_kept_alive(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.02)
    pool = pool_from_config(
        {"foo.url": valkey.url, **{f"foo.{k}": v for k, v in ALL.items()}}, "foo."
    )
    client = MonitoredRedisConnection("foo", None, pool)
    client.get("a")
    reference = weakref.ref(tracker_of(client))
    pool.disconnect()
    del client, pool
    wait_until(lambda: gc.collect() >= 0 and reference() is None)


@runs_under("threads", "gevent")
def test_samples_of_several_threads_are_all_counted(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        settings = {"foo.url": server.url, **{f"foo.{key}": rate for key, rate in ALL.items()}}
        pool = pool_from_config(settings, "foo.")
        client = MonitoredRedisConnection("foo", None, pool)
        threads = [
            threading.Thread(target=lambda: [client.get("a") for _ in range(100)]) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: in_sets(server)[0] == {"a": 500})
        pool.disconnect()


@runs_under("threads", "gevent")
def test_a_forked_process_counts_its_own_and_leaves_its_parents_to_the_parent(
    tmp_path: Path,
) -> None:
    with running_server("valkey", tmp_path) as server:
        settings = {"foo.url": server.url, **{f"foo.{key}": rate for key, rate in ALL.items()}}
        pool = pool_from_config(settings, "foo.")
        client = MonitoredRedisConnection("foo", None, pool)
        client.get("parent")
        tracker_of(client).flush()
        client.get("parent")

        def in_the_child() -> bool:
            client.get("child")
            wait_until(lambda: "child" in in_sets(server)[0])  # by its own thread
            return True

        assert in_child(in_the_child)
        assert counted(server, client)[0] == {"parent": 2, "child": 1}
        pool.disconnect()


SCRIPT = """
import sys
if {gevent}:
    from gevent import monkey
    monkey.patch_all()
from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config
settings = {{"foo.url": sys.argv[1], "foo.track_key_reads_sample_rate": "100%"}}
client = MonitoredRedisConnection("foo", None, pool_from_config(settings, "foo."))
client.get("a")
client.connection_pool.hot_keys.flush()
client.get("a")
import os, signal
if len(sys.argv) > 2:
    os.kill(int(sys.argv[2]), signal.SIGSTOP)
"""


def run_script(gevent: bool, *arguments: str) -> float:
    """The seconds that it took."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", SCRIPT.format(gevent=gevent), *arguments], check=True, timeout=60,
        env={key: value for key, value in os.environ.items() if not key.startswith("COV")},
    )  # fmt: skip
    return time.monotonic() - started


@pytest.mark.parametrize("gevent", [False, True])
def test_a_script_that_ends_writes_what_it_has(valkey: Server, gevent: bool) -> None:
    run_script(gevent, valkey.url)
    assert in_sets(valkey)[0] == {"a": 2}


def test_a_frozen_server_delays_the_end_by_no_more_than_a_second(mortal: Server) -> None:
    usual = run_script(False, mortal.url)
    process = mortal.executor.process
    assert process is not None
    try:
        assert run_script(False, mortal.url, str(process.pid)) < usual + 1.5
    finally:
        process.send_signal(18)  # SIGCONT


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
