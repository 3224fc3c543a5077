"""Look-ups of a Cluster's layout are bounded in time, and shared by all callers that wait."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis.exceptions import RedisClusterException

from pyramid_baseplate_redis import (
    CircuitOpenError,
    MonitoredRedisClusterConnection,
    is_retryable,
)
from pyramid_baseplate_redis.cluster import layout as layout_module
from pyramid_baseplate_redis.cluster.layout import LayoutLookup, node_seconds
from pyramid_baseplate_redis.pool.circuit_breaker import CircuitBreaker

from ..support.topologies import Cluster, frozen
from .conftest import MakeClusterClient, one_key_each

SECONDS = 0.2  # of each timeout
LOOK_UP = 2 * SECONDS  # to connect and to get a reply
SLACK = 0.3
TIMES = {"socket_timeout": "200 ms", "socket_connect_timeout": "200 ms", "pool_timeout": "1 second"}
FAILURES = (redis.RedisError, RedisClusterException)
MEASURES = pytest.mark.timed("measures how long a call takes")


def failure(call: Callable[[], Any]) -> tuple[Exception | None, float]:
    """Return the error that ``call`` raises, if any, and the seconds until then."""
    started = time.monotonic()
    try:
        call()
    except Exception as error:
        return error, time.monotonic() - started
    return None, time.monotonic() - started


@MEASURES
def test_a_command_fails_in_time_while_no_node_answers(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, **TIMES)
    client.set("key", "value")
    with frozen(cluster.nodes):
        error, seconds = failure(lambda: client.get("key"))
    assert isinstance(error, FAILURES)
    assert seconds < SECONDS + LOOK_UP + SLACK


@MEASURES
def test_all_threads_fail_in_time_while_no_node_answers(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, **TIMES)
    client.set("key", "value")
    with frozen(cluster.nodes), ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda _: failure(lambda: client.get("key")), range(8)))
    assert max(seconds for _, seconds in found) < SECONDS + 2 * LOOK_UP + SLACK
    assert all(isinstance(error, FAILURES) for error, _ in found)


@MEASURES
def test_a_pipeline_fails_in_time_while_no_node_answers(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, **TIMES)
    client.set("key", "value")
    client.connection_pool.disconnect()  # on an open connection it makes no look-up
    with frozen(cluster.nodes):
        error, seconds = failure(lambda: client.pipeline().get("key").execute())
    assert isinstance(error, FAILURES)
    assert seconds < SECONDS + LOOK_UP + SLACK


@MEASURES
def test_the_first_commands_fail_in_time_while_no_node_answers(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    hosts = ",".join(node.address for node in cluster.nodes)
    client = make(f"redis+cluster://{hosts}", **TIMES)
    with frozen(cluster.nodes), ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda _: failure(lambda: client.get("key")), range(8)))
    assert max(seconds for _, seconds in found) < LOOK_UP + SLACK
    assert all(isinstance(error, RedisClusterException) for error, _ in found)


@MEASURES
def test_no_caller_asks_for_the_layout_while_the_breaker_is_open(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, **TIMES, breaker_failures="1", breaker_reset="1 minute")
    client.set("key", "value")
    with frozen(cluster.nodes):
        failure(lambda: client.get("key"))
        error, seconds = failure(lambda: client.get("key"))
    assert isinstance(error, CircuitOpenError)
    assert seconds < SECONDS


@MEASURES
def test_the_first_command_is_refused_while_the_breaker_is_open(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, **TIMES, breaker_failures="1", breaker_reset="1 minute")
    with frozen(cluster.nodes):
        failure(lambda: client.get("key"))
        error, seconds = failure(lambda: client.get("key"))
    assert isinstance(error, CircuitOpenError)
    assert "foo: the Cluster failed once" in str(error)
    assert seconds < SECONDS / 2


@MEASURES
def test_a_living_node_answers_at_once_while_the_others_do_not(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, **TIMES)
    living, dead, _ = one_key_each(cluster)
    client.set(living, "value")
    others = [node for node in cluster.nodes if node is not cluster.node_of(living)]
    with frozen(others), ThreadPoolExecutor(1) as executor:
        hanging = executor.submit(failure, lambda: client.get(dead))
        slowest = 0.0
        while not hanging.done():
            started = time.monotonic()
            assert client.get(living) == b"value"
            slowest = max(slowest, time.monotonic() - started)
    error, seconds = hanging.result()
    assert isinstance(error, FAILURES)
    assert seconds < 2 * SECONDS + LOOK_UP + SLACK
    assert slowest < 0.75 * LOOK_UP  # a command that waits for the look-up takes all of it


def test_a_look_up_takes_no_connection_from_the_pool(
    cluster: Cluster, make: MakeClusterClient
) -> None:
    client = make(cluster, **TIMES, max_connections="1")
    client.set("key", "value")
    pool = client.get_node_from_key("key").redis_connection.connection_pool
    connection = pool.get_connection()
    client.nodes_manager.initialize()
    assert pool.stats.in_use == 1
    pool.release(connection)


# The shares of the time, and the sharing of results, without a Cluster


def test_each_node_gets_a_third_of_the_time_that_is_left() -> None:
    shares: list[float | None] = []
    LayoutLookup(9.0, None).run(lambda: shares.extend(node_seconds() for _ in range(2)), 6)
    assert shares == [pytest.approx(3.0, abs=0.1), pytest.approx(3.0, abs=0.1)]


def test_the_last_node_gets_all_the_time_that_is_left() -> None:
    shares: list[float | None] = []
    LayoutLookup(9.0, None).run(lambda: shares.append(node_seconds()), 1)
    assert shares == [pytest.approx(9.0, abs=0.1)]


def test_no_node_is_asked_when_the_time_is_over() -> None:
    def look_up() -> None:
        time.sleep(0.02)
        node_seconds()

    with pytest.raises(redis.TimeoutError, match="No time was left"):
        LayoutLookup(0.01, None).run(look_up, 6)


def test_outside_of_a_look_up_nodes_have_no_share() -> None:
    LayoutLookup(9.0, None).run(lambda: None, 6)
    assert node_seconds() is None


class Calls:
    """Look-ups in two threads, the second of which comes while the first one looks up."""

    def __init__(self, lookup: LayoutLookup, first: Callable[[], object]) -> None:
        self.made: list[str] = []
        began = threading.Event()

        def look_up() -> None:
            self.made.append("first")
            began.set()
            time.sleep(0.1)
            first()

        def run(work: Callable[[], object]) -> BaseException | None:
            try:
                lookup.run(work, 1)
            except BaseException as error:
                return error
            return None

        with ThreadPoolExecutor(2) as executor:
            one = executor.submit(run, look_up)
            assert began.wait(5)
            other = executor.submit(run, lambda: self.made.append("second"))
            self.errors = [one.result(), other.result()]


def test_a_caller_that_waits_makes_no_look_up_of_its_own() -> None:
    calls = Calls(LayoutLookup(5.0, None), lambda: None)
    assert (calls.made, calls.errors) == (["first"], [None, None])


def test_a_caller_that_waits_gets_an_error_of_its_own_with_the_same_text() -> None:
    def fail() -> None:
        raise RedisClusterException("no node answered") from redis.TimeoutError("slow")

    mine, other = Calls(LayoutLookup(5.0, None), fail).errors
    assert other is not None
    assert mine is not other
    assert (type(other), str(other)) == (RedisClusterException, "no node answered")
    assert isinstance(other.__cause__, redis.TimeoutError)


def test_a_node_that_comes_back_keeps_its_pool_while_a_connection_is_in_use(
    client: MonitoredRedisClusterConnection,
) -> None:
    node = client.get_node_from_key("foo")
    pool = node.redis_connection.connection_pool
    connection = pool.get_connection()
    manager = client.nodes_manager
    manager.nodes_cache = {k: each for k, each in manager.nodes_cache.items() if k != node.name}
    manager.initialize()
    back = client.get_node_from_key("foo")
    assert back is not node
    assert back.redis_connection.connection_pool is pool
    pool.release(connection)


def test_a_node_whose_pool_is_no_longer_used_gets_a_new_one(make: MakeClusterClient) -> None:
    pools = make("redis+cluster://127.0.0.1:1").connection_pool
    first = pools._node_pool(host="127.0.0.1", port=1)
    assert pools._node_pool(host="127.0.0.1", port=1) is first
    assert pools._node_pool(host="127.0.0.1", port=2) is not first
    reference = weakref.ref(first)
    del first
    gc.collect()
    assert reference() is None
    assert pools._node_pool(host="127.0.0.1", port=1).stats.open == 0


@pytest.mark.parametrize("error", [ValueError("of something else"), KeyboardInterrupt()])
def test_a_caller_that_waits_looks_up_itself_if_the_other_one_was_interrupted(
    error: BaseException,
) -> None:
    def interrupted() -> None:
        raise error

    calls = Calls(LayoutLookup(5.0, None), interrupted)
    assert (calls.made, calls.errors) == (["first", "second"], [error, None])


def test_a_caller_that_dies_before_its_look_up_begins_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookup, made = LayoutLookup(5.0, None), []
    with monkeypatch.context() as patch:
        patch.setattr(layout_module, "_Budget", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lookup.run(lambda: None, 1)
    lookup.run(lambda: made.append("next"), 1)
    assert made == ["next"]


def test_a_look_up_that_does_not_end_holds_no_caller_for_ever() -> None:
    lookup, over = LayoutLookup(0.05, None), threading.Event()
    thread = threading.Thread(target=lambda: lookup.run(lambda: over.wait(5), 1))
    thread.start()
    time.sleep(0.05)
    try:
        with pytest.raises(redis.TimeoutError, match="does not end"):
            lookup.run(lambda: None, 1)
    finally:
        over.set()
        thread.join()


def test_a_signal_handler_may_look_up_while_its_thread_does() -> None:
    lookup = LayoutLookup(5.0, None)
    found: list[Any] = []
    before = signal.signal(
        signal.SIGUSR1, lambda *_: lookup.run(lambda: found.append("handler's"), 1)
    )
    try:
        lookup.run(lambda: os.kill(os.getpid(), signal.SIGUSR1), 1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert found == ["handler's"]


def test_look_ups_in_which_no_node_answers_open_the_breaker() -> None:
    lookup = LayoutLookup(5.0, CircuitBreaker("foo", 2, 60.0, "the Cluster"))

    def fail() -> None:
        raise RedisClusterException("no node answered") from redis.ConnectionError("gone")

    for _ in range(2):
        with pytest.raises(RedisClusterException):
            lookup.run(fail, 1)
    with pytest.raises(CircuitOpenError):
        lookup.run(lambda: None, 1)


def test_nodes_that_answer_and_do_not_agree_leave_the_breaker_closed() -> None:
    lookup = LayoutLookup(5.0, CircuitBreaker("foo", 1, 60.0, "the Cluster"))

    def fail() -> None:
        raise RedisClusterException("All slots are not covered")

    with pytest.raises(RedisClusterException):
        lookup.run(fail, 1)
    lookup.run(lambda: None, 1)


def test_a_signal_handler_may_look_up_while_its_thread_waits() -> None:
    lookup, began, over = LayoutLookup(5.0, None), threading.Event(), threading.Event()
    ended: list[str] = []

    def first() -> None:
        began.set()
        over.wait(5)

    def handle(*_: object) -> None:
        over.set()
        lookup.run(lambda: None, 1)
        ended.append("handler")

    thread = threading.Thread(target=lambda: lookup.run(first, 1))
    thread.start()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        assert began.wait(5)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        lookup.run(lambda: None, 1)
        ended.append("thread")
    finally:
        signal.signal(signal.SIGALRM, before)
        thread.join()
    assert ended == ["handler", "thread"]


def test_a_probe_that_failed_keeps_no_other_away() -> None:
    lookup = LayoutLookup(5.0, CircuitBreaker("foo", 1, 0.01, "the Cluster"))

    def fail(cause: Exception) -> None:
        raise RedisClusterException("no node answered") from cause

    gc.disable()  # or a collection would free the probe
    try:
        with pytest.raises(RedisClusterException):
            lookup.run(lambda: fail(redis.ConnectionError("gone")), 1)
        time.sleep(0.02)
        with pytest.raises(RedisClusterException) as kept:
            lookup.run(lambda: fail(redis.AuthenticationError("refused")), 1)
        time.sleep(0.02)
        lookup.run(lambda: None, 1)
        assert kept.value.args == ("no node answered",)
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["direct", "through redis-py"])
def test_a_write_that_may_have_been_executed_is_not_reported_as_refused(
    cluster: Cluster, make: MakeClusterClient, how: str
) -> None:
    client = make(cluster, **TIMES, breaker_failures="1", breaker_reset="1 minute")
    other, key, _ = one_key_each(cluster)
    script = "return redis.call('INCR', KEYS[1])"

    def write() -> object:
        return client.incr(key) if how == "direct" else client.eval(script, 1, key)

    client.get(other)
    write()
    with frozen(cluster.nodes):
        failure(lambda: client.get(other))  # opens the look-up's breaker
        error, _ = failure(write)
    assert isinstance(error, redis.TimeoutError)
    assert not is_retryable(error)
