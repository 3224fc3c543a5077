"""MessageQueue: nothing is lost while waiting, whatever the server does, and spans tell of it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from pyramid_baseplate_redis import (
    MessageQueue,
    MessageQueueError,
    MonitoredRedisConnection,
    TimedOutError,
    pool_from_config,
)
from pyramid_baseplate_redis.queues import list_queue

from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    interrupt_when_blocked,
    running_server,
    wait_until,
)

tracer = trace.get_tracer("tests")


@pytest.fixture
def queue(server: Server, make_client: MakeClient) -> MessageQueue:
    """A queue whose socket timeout is shorter than any of its waits."""
    return make_client(server, socket_timeout="200 milliseconds").message_queue("jobs")


@pytest.fixture
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting queue looks after the server more often than it does in earnest."""
    monkeypatch.setattr(list_queue, "POLL_SECONDS", 0.3)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own, to be killed or frozen."""
    with running_server("valkey", tmp_path) as server:
        yield server


def in_background(call: Callable[[], Any]) -> Future[Any]:
    """Call in a thread that nobody has to wait for, should it never come back."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def blocked_clients(server: Server) -> list[int]:
    """The clients that wait in BLPOP."""
    with redis.Redis(port=server.port) as probe:
        return [int(client["id"]) for client in probe.client_list() if "b" in client["flags"]]


@contextmanager
def other_client(server: Server) -> Iterator[MessageQueue]:
    """The queue as somebody else sees it, who isn't monitored."""
    with redis.Redis(port=server.port) as client:
        yield MessageQueue("jobs", client)


# Messages


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"a message", b"a message"),
        ("a message", b"a message"),
        ("grüße", "grüße".encode()),
        (b"", b""),
        ("", b""),
        (bytes(range(256)), bytes(range(256))),
        (b"x" * 1_000_000, b"x" * 1_000_000),
    ],
    ids=["bytes", "text", "accents", "no bytes", "no text", "every byte", "a megabyte"],
)
@pytest.mark.parametrize("timeout", [0, 2, None])
@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "decoded"])
def test_a_message_comes_out_as_bytes(
    server: Server,
    make_client: MakeClient,
    message: str | bytes,
    expected: bytes,
    timeout: float | None,
    decoded: bool,
) -> None:
    queue = make_client(server, decode_responses=str(decoded)).message_queue("jobs")
    queue.put(message)
    assert queue.get(timeout) == expected


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_messages_come_out_in_the_order_in_which_they_went_in(
    server: Server, make_client: MakeClient, protocol: str
) -> None:
    queue = make_client(server, protocol=protocol).message_queue("jobs")
    for number in range(10):
        queue.put(str(number))
    assert [int(queue.get(timeout)) for timeout in [0, 1] * 5] == list(range(10))


def test_put_takes_baseplates_timeout(queue: MessageQueue) -> None:
    queue.put(b"a message", timeout=3)
    assert queue.get(0) == b"a message"


@pytest.mark.parametrize("method", ["unlink", "close"])
def test_a_removed_queue_is_empty_and_can_be_used_again(queue: MessageQueue, method: str) -> None:
    queue.put(b"removed")
    getattr(queue, method)()
    queue.put(b"kept")
    assert queue.get(0) == b"kept"
    with pytest.raises(TimedOutError):
        queue.get(0)


# Waiting


@pytest.fixture
def valkey_queue(valkey: Server, make_client: MakeClient) -> MessageQueue:
    """The same on one kind of server: for tests that have to wait."""
    return make_client(valkey, socket_timeout="200 milliseconds").message_queue("jobs")


def test_an_empty_queue_is_a_timed_out_error(queue: MessageQueue) -> None:
    with pytest.raises(TimedOutError) as raised:
        queue.get(0)
    assert str(raised.value) == "Timed out waiting for the message queue."
    assert isinstance(raised.value, MessageQueueError)


def test_get_with_no_time_doesnt_wait(queue: MessageQueue) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOutError):
        queue.get(0)
    assert time.monotonic() - started < 0.5


def test_a_float_is_rounded_up(valkey_queue: MessageQueue) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOutError):
        valkey_queue.get(0.2)
    assert 0.95 < time.monotonic() - started < 2


def test_a_message_that_comes_late_in_a_rounded_up_wait_is_still_taken(
    valkey_queue: MessageQueue, valkey: Server
) -> None:
    with other_client(valkey) as other:
        timer = threading.Timer(0.5, other.put, [b"late"])
        timer.start()
        assert valkey_queue.get(0.1) == b"late"
        timer.join()


@pytest.mark.parametrize("timeout", [-1, -0.1, float("nan"), float("inf")])
def test_a_timeout_that_means_nothing_is_refused(queue: MessageQueue, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout: "):
        queue.get(timeout)


@pytest.mark.parametrize("timeout", [3, None])
def test_waiting_longer_than_the_socket_timeout_loses_nothing(
    queue: MessageQueue, server: Server, timeout: float | None
) -> None:
    waiting = in_background(lambda: queue.get(timeout))
    wait_until(lambda: blocked_clients(server))
    time.sleep(0.5)
    with other_client(server) as other:
        other.put(b"late")
    assert waiting.result(5) == b"late"


@pytest.mark.usefixtures("short_polls")
def test_waiting_for_ever_outlives_many_polls(valkey_queue: MessageQueue, valkey: Server) -> None:
    waiting = in_background(lambda: valkey_queue.get(None))
    time.sleep(1)
    assert not waiting.done()
    with other_client(valkey) as other:
        other.put(b"late")
    assert waiting.result(5) == b"late"


@pytest.mark.usefixtures("short_polls")
def test_a_wait_of_several_polls_ends_in_time(valkey_queue: MessageQueue) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOutError):
        valkey_queue.get(1)
    assert 0.95 < time.monotonic() - started < 2


@pytest.mark.parametrize("error", [True, False], ids=["error", "timeout"])
@pytest.mark.parametrize("timeout", [5, None])
def test_being_unblocked_by_an_administrator_is_survived(
    queue: MessageQueue, server: Server, error: bool, timeout: float | None
) -> None:
    waiting = in_background(lambda: queue.get(timeout))
    wait_until(lambda: blocked_clients(server))
    with redis.Redis(port=server.port) as administrator:
        assert administrator.client_unblock(blocked_clients(server)[0], error=error)
        wait_until(lambda: blocked_clients(server))
        administrator.rpush("jobs", b"late")
    assert waiting.result(5) == b"late"


# The server goes away


@pytest.mark.usefixtures("short_polls")
def test_waiting_for_ever_goes_on_after_a_killed_server_came_back(
    mortal: Server, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_client(mortal, socket_timeout="200 milliseconds").message_queue("jobs")
    waiting = in_background(lambda: queue.get(None))
    wait_until(lambda: blocked_clients(mortal))
    mortal.kill()
    wait_until(lambda: "queue jobs" in caplog.text)
    mortal.restart()
    with other_client(mortal) as other:
        other.put(b"late")
    assert waiting.result(10) == b"late"
    # One line when it goes, one when it's back, however many attempts there were.
    ours = [record for record in caplog.records if record.name == "pyramid_baseplate_redis.queues"]
    levels = [record.levelno for record in ours]
    assert levels == [logging.WARNING] * 2


@pytest.mark.usefixtures("short_polls")
def test_waiting_for_ever_notices_a_frozen_server_and_goes_on(
    mortal: Server, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_client(mortal, socket_timeout="200 milliseconds").message_queue("jobs")
    waiting = in_background(lambda: queue.get(None))
    wait_until(lambda: blocked_clients(mortal))
    process = mortal.executor.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "queue jobs" in caplog.text)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: "is back" in caplog.text)
    with other_client(mortal) as other:
        other.put(b"late")
    assert waiting.result(10) == b"late"


def test_waiting_for_a_time_tells_of_a_killed_server(
    mortal: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    queue = make_client(mortal).message_queue("jobs")
    waiting = in_background(lambda: queue.get(30))
    wait_until(lambda: blocked_clients(mortal))
    mortal.kill()
    with pytest.raises(redis.ConnectionError):
        waiting.result(10)
    span = spans.one("foo.BLPOP")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "redis.exceptions.ConnectionError"


@pytest.mark.parametrize("timeout", [0, 5, None])
def test_a_wrong_password_is_raised_at_once(
    tmp_path: Path, make_client: MakeClient, spans: RecordedSpans, timeout: float | None
) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as server:
        queue = make_client(server, password="wrong").message_queue("jobs")
        waiting = in_background(lambda: queue.get(timeout))
        with pytest.raises(redis.AuthenticationError):
            waiting.result(3)
    (span,) = spans.all
    assert attributes(span)["error.type"] == "redis.exceptions.AuthenticationError"


def test_without_a_password_waiting_for_ever_ends_at_once(
    tmp_path: Path, make_client: MakeClient
) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as server:
        queue = make_client(server).message_queue("jobs")
        with pytest.raises(redis.AuthenticationError):
            in_background(lambda: queue.get(None)).result(3)


@pytest.mark.parametrize("timeout", [0, 5, None])
def test_a_key_that_holds_no_list_is_an_error_at_once(
    queue: MessageQueue, spans: RecordedSpans, timeout: float | None
) -> None:
    queue.client.set("jobs", "no list")
    spans.clear()
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        in_background(lambda: queue.get(timeout)).result(3)
    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["db.response.status_code"] == "WRONGTYPE"


# Interrupted


@pytest.mark.parametrize("kept", [False, True], ids=["pooled", "kept"])
def test_an_interrupted_get_leaves_no_unread_reply(
    server: Server, make_client: MakeClient, kept: bool
) -> None:
    client = make_client(server, max_connections="1")
    if kept:
        client = client.client()
    queue = client.message_queue("jobs")
    client.set("key", "value")
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        queue.get(5)
    thread.join()
    with other_client(server) as other:
        other.put(b"late")
    assert client.get("key") == b"value"
    assert queue.get(1) == b"late"


def test_to_stop_an_idle_worker_is_no_failure(
    queue: MessageQueue, server: Server, spans: RecordedSpans
) -> None:
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        queue.get(5)
    thread.join()
    assert spans.names == []


@pytest.mark.parametrize(
    ("client", "given"), [("redis://:the-secret@localhost", "str"), (None, "NoneType")]
)
def test_what_is_neither_a_pool_nor_a_client_is_refused(client: Any, given: str) -> None:
    with pytest.raises(TypeError) as caught:
        MessageQueue("jobs", client)
    assert str(caught.value) == (
        f"client: {given} is neither a redis.ConnectionPool nor a client of redis-py"
    )


@pytest.mark.usefixtures("short_polls")
def test_a_frozen_server_is_noticed_without_a_socket_timeout_too(
    mortal: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyramid_baseplate_redis.queues.raw_commands._GRACE_SECONDS", 0.2)
    pool = pool_from_config({"foo.url": mortal.url}, "foo.", socket_timeout=None)
    waiting = in_background(lambda: MessageQueue("jobs", pool).get(60))
    wait_until(lambda: blocked_clients(mortal))
    process = mortal.executor.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(redis.TimeoutError):
            waiting.result(10)
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_waiting_for_ever_doesnt_take_a_used_up_pool_for_a_server_that_is_away(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="10 milliseconds")
    held = client.connection_pool.get_connection()
    try:
        with pytest.raises(redis.exceptions.MaxConnectionsError, match="No connection available"):
            client.message_queue("jobs").get(None)
    finally:
        client.connection_pool.release(held)


class AlarmError(Exception):
    """What the handler of a signal raises."""


def test_a_get_that_a_signal_handler_ends_leaves_no_unread_reply(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey, max_connections="1")
    queue = client.message_queue("jobs")

    def ring(*unused: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for turn in range(5):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(AlarmError):
                queue.get(5)
            queue.put(str(turn))
            assert queue.get(1) == str(turn).encode()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class InterruptedConnection(redis.Connection):
    """A connection on which Ctrl+C comes between a BLPOP and its reply, once."""

    interrupts = True

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("disable_decoding") and self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt
        return super().read_response(*args, **kwargs)


@pytest.mark.parametrize("kept", [False, True], ids=["pooled", "kept"])
@pytest.mark.parametrize("timeout", [0, 1])
def test_a_get_interrupted_before_it_reads_leaves_no_unread_reply(
    valkey: Server, kept: bool, timeout: float
) -> None:
    pool = pool_from_config(
        {"foo.url": valkey.url}, "foo.", connection_class=InterruptedConnection, max_connections=1
    )
    client = MonitoredRedisConnection("foo", None, pool)
    if kept:
        client = client.client()
    client.rpush("jobs", "taken", "kept")
    with pytest.raises(KeyboardInterrupt):
        client.message_queue("jobs").get(timeout)
    assert client.echo("hello") == b"hello"
    client.close()
    pool.disconnect()


# What a queue is made from


@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "decoded"])
def test_a_queue_on_a_plain_client(server: Server, decoded: bool) -> None:
    with redis.Redis(port=server.port, socket_timeout=0.2, decode_responses=decoded) as client:
        queue = MessageQueue("jobs", client)
        with pytest.raises(TimedOutError):
            queue.get(0)
        timer = threading.Timer(0.4, queue.put, ["late"])
        timer.start()
        assert queue.get(5) == b"late"
        timer.join()


@pytest.mark.parametrize("pool_class", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_a_queue_on_a_plain_pool(server: Server, pool_class: type[redis.ConnectionPool]) -> None:
    with closing(pool_class(port=server.port, decode_responses=True)) as pool:
        queue = MessageQueue("jobs", pool)
        queue.put("a message")
        assert queue.get(1) == b"a message"


def test_a_queue_on_a_client_that_keeps_its_connection(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    request = tracer.start_span("request")
    client = make_client(server, request, max_connections="1", pool_timeout="0 seconds")
    with client.client() as single:
        queue = single.message_queue("jobs")
        queue.put("a message")
        assert queue.get(1) == b"a message"
        with pytest.raises(TimedOutError):
            queue.get(0)
    request.end()
    assert spans.tree() == [("request", None), ("foo.RPUSH", "request"), ("foo.BLPOP", "request")]


def test_threads_take_turns_on_a_kept_connection(valkey: Server, make_client: MakeClient) -> None:
    with make_client(valkey).client() as single:
        queue = single.message_queue("jobs")

        def work(number: int) -> list[bool]:
            right = []
            for turn in range(100):
                queue.put(b"a message")
                text = f"{number}-{turn}".encode()
                right += [single.echo(text) == text, queue.get(0) == b"a message"]
            return right

        working = [in_background(lambda number=number: work(number)) for number in range(4)]
        assert all(all(future.result(10)) for future in working)


def test_a_kept_connection_outlives_the_server(mortal: Server, make_client: MakeClient) -> None:
    with make_client(mortal).client() as single:
        queue = single.message_queue("jobs")
        waiting = in_background(lambda: queue.get(None))
        wait_until(lambda: blocked_clients(mortal))
        mortal.kill()
        mortal.restart()
        with other_client(mortal) as other:
            other.put(b"late")
        assert waiting.result(10) == b"late"


@pytest.mark.parametrize("made_from", ["pool", "client"])
def test_a_queue_without_a_request_is_monitored_while_a_span_is_current(
    server: Server, make_client: MakeClient, spans: RecordedSpans, made_from: str
) -> None:
    pool = make_client(server).connection_pool
    queue = MessageQueue("jobs", pool if made_from == "pool" else redis.Redis(connection_pool=pool))
    queue.put("unseen")
    queue.get(1)
    with tracer.start_as_current_span("worker"):
        queue.put("seen")
        queue.get(1)
    assert spans.tree() == [("worker", None), ("foo.RPUSH", "worker"), ("foo.BLPOP", "worker")]


def test_a_queue_on_a_pool_of_redis_pys_own_is_monitored_too(
    server: Server, spans: RecordedSpans
) -> None:
    with (
        closing(redis.ConnectionPool(port=server.port)) as pool,
        tracer.start_as_current_span("worker"),
    ):
        MessageQueue("jobs", pool).put("a message")
        MessageQueue("jobs", pool).unlink()
    assert spans.names == ["worker", "redis.RPUSH", "redis.UNLINK"]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"trace": "off"}, []),
        ({"trace": "pipelines"}, []),
        ({"trace_exclude": "BLPOP"}, ["foo.RPUSH"]),
    ],
)
@pytest.mark.parametrize("made_from", ["pool", "monitored client"])
def test_a_queue_heeds_the_clients_trace_settings(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    settings: dict[str, str],
    names: list[str],
    made_from: str,
) -> None:
    client = make_client(valkey, **settings)
    queue = MessageQueue("jobs", client.connection_pool if made_from == "pool" else client)
    with tracer.start_as_current_span("worker"):
        queue.put("a message")
        queue.get(1)
    assert spans.names == ["worker", *names]


# Spans


def test_put_and_get_have_a_client_span_each(
    queue: MessageQueue, server: Server, spans: RecordedSpans
) -> None:
    queue.put("a message")
    queue.get(1)
    common = {
        "db.system.name": "redis",
        "db.namespace": "0",
        "db.client.connection.pool.name": "foo",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    assert [(span.name, span.kind, attributes(span)) for span in spans.all] == [
        ("foo.RPUSH", SpanKind.CLIENT, common | {"db.operation.name": "RPUSH"}),
        ("foo.BLPOP", SpanKind.CLIENT, common | {"db.operation.name": "BLPOP"}),
    ]


def test_a_get_that_doesnt_wait_has_the_span_of_its_command(
    queue: MessageQueue, spans: RecordedSpans
) -> None:
    queue.put("a message")
    queue.get(0)
    assert spans.names == ["foo.RPUSH", "foo.LPOP"]


@pytest.mark.parametrize("method", ["unlink", "close"])
def test_removing_a_queue_has_a_span(
    queue: MessageQueue, spans: RecordedSpans, method: str
) -> None:
    getattr(queue, method)()
    assert spans.names == ["foo.UNLINK" if method == "unlink" else "foo.DEL"]


@pytest.mark.parametrize("timeout", [0, 1])
def test_an_empty_queue_makes_no_span(
    valkey_queue: MessageQueue, spans: RecordedSpans, timeout: float
) -> None:
    with pytest.raises(TimedOutError):
        valkey_queue.get(timeout)
    assert spans.names == []


@pytest.mark.usefixtures("short_polls")
def test_waiting_makes_one_span_when_the_message_is_there(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with tracer.start_as_current_span("worker"):
        queue = make_client(valkey).message_queue("jobs")
        with other_client(valkey) as other:
            timer = threading.Timer(0.8, other.put, ["late"])
            timer.start()
            queue.get(None)
            timer.join()
    assert spans.tree() == [("worker", None), ("foo.BLPOP", "worker")]
    span = spans.one("foo.BLPOP")
    assert 0.5e9 < (span.end_time or 0) - (span.start_time or 0) < 5e9


def test_a_put_that_fails_is_a_failure(queue: MessageQueue, spans: RecordedSpans) -> None:
    queue.client.set("jobs", "no list")
    spans.clear()
    with pytest.raises(redis.ResponseError):
        queue.put("a message")
    span = spans.one("foo.RPUSH")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["db.response.status_code"] == "WRONGTYPE"


# Many consumers


def test_each_message_goes_to_one_consumer_of_many(valkey: Server, make_client: MakeClient) -> None:
    consumers, messages = 8, 4000
    queue = make_client(valkey, max_connections="9", trace="off").message_queue("jobs")

    def consume() -> list[int]:
        taken = []
        while (message := queue.get(20)) != b"":
            taken.append(int(message))
        return taken

    consuming = [in_background(consume) for _ in range(consumers)]
    for number in range(messages):
        queue.put(str(number))
    for _ in range(consumers):
        queue.put(b"")
    taken = [future.result(20) for future in consuming]
    assert Counter(chain.from_iterable(taken)) == Counter(range(messages))
    assert sum(1 for numbers in taken if numbers) > 1
