"""The hot key tracker in the background: no request notices its errors, threads or end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry.instrumentation.redis import RedisInstrumentor

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ..faults.everywhere import runs_under
from ..faults.helpers import in_child
from ..support.hot_key_sets import ALL, counted, in_sets, module, tracker_of, warnings_of
from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    free_port,
    running_server,
    wait_until,
)


@pytest.fixture
def client(server: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    return make_client(server, **ALL)


@pytest.fixture
def valkey_client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    return make_client(valkey, **ALL)


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
    # The tracker of an earlier test, whose server is gone, may still log its own warnings.
    warning = "foo: hot keys are sampled faster than they can be counted"
    assert warnings_of(caplog).count(warning) == 1


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


@pytest.mark.alone("compares how long processes take")
def test_a_frozen_server_delays_the_end_by_no_more_than_a_second(mortal: Server) -> None:
    usual = run_script(False, mortal.url)
    process = mortal.executor.process
    assert process is not None
    try:
        assert run_script(False, mortal.url, str(process.pid)) < usual + 1.5
    finally:
        process.send_signal(18)  # SIGCONT
