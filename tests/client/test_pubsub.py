"""Subscribers: commands and handlers have spans, waiting has none, and nothing cuts them off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import redis
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from redis.client import PubSub

from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    running_server,
    wait_until,
)

tracer = trace.get_tracer("tests")


@pytest.fixture
def publish(server: Server) -> Iterator[Callable[[str, str], int]]:
    """Publish as somebody else, who isn't monitored."""
    with redis.Redis(port=server.port) as other:
        yield other.publish


def next_message(subscriber: PubSub, seconds: float = 5) -> Any:
    """The next message that no handler took; ``None`` if there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = subscriber.get_message(ignore_subscribe_messages=True, timeout=0.1)
        if message is not None:
            return message
    return None


def handle_until(subscriber: PubSub, done: Callable[[], object], seconds: float = 5) -> None:
    """Have messages handled until something has happened."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it hasn't happened in time"
        subscriber.get_message(timeout=0.1)


def confirm(subscriber: PubSub, replies: int = 1) -> None:
    """Read the server's replies to subscriptions: from now on messages arrive."""
    for _ in range(replies):
        assert subscriber.get_message(timeout=5) is not None


# Commands


def test_subscribing_and_unsubscribing_have_spans(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with tracer.start_as_current_span("request"), make_client(server).pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.psubscribe("new*")
        subscriber.ssubscribe("shard")
        subscriber.unsubscribe("news")
        subscriber.punsubscribe("new*")
        subscriber.sunsubscribe("shard")
        subscriber.ping()
    assert spans.tree() == [
        ("request", None),
        ("foo.SUBSCRIBE", "request"),
        ("foo.PSUBSCRIBE", "request"),
        ("foo.SSUBSCRIBE", "request"),
        ("foo.UNSUBSCRIBE", "request"),
        ("foo.PUNSUBSCRIBE", "request"),
        ("foo.SUNSUBSCRIBE", "request"),
        ("foo.PING", "request"),
    ]


def test_a_subscription_is_a_client_span_like_any_command(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with make_client(server).pubsub() as subscriber:
        subscriber.subscribe("news")
    span = spans.one("foo.SUBSCRIBE")
    assert span.kind == SpanKind.CLIENT
    assert attributes(span) == {
        "db.system.name": "redis",
        "db.namespace": "0",
        "db.operation.name": "SUBSCRIBE",
        "db.client.connection.pool.name": "foo",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
    }


def test_a_subscription_that_fails_is_a_failure(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="10 milliseconds")
    with client.client(), pytest.raises(redis.ConnectionError):
        client.pubsub().subscribe("news")
    assert spans.one("foo.SUBSCRIBE").status.status_code is StatusCode.ERROR


def test_waiting_makes_no_span(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with make_client(server).pubsub() as subscriber:
        subscriber.subscribe("news")
        confirm(subscriber)
        for _ in range(3):
            assert subscriber.get_message(timeout=0.02) is None
    assert spans.names == ["foo.SUBSCRIBE"]


def test_closing_gives_the_connection_back(valkey: Server, make_client: MakeClient) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="10 milliseconds")
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")
        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert client.ping()


# Messages


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "decoded"])
def test_a_message_is_redis_pys(
    server: Server,
    make_client: MakeClient,
    publish: Callable[[str, str], int],
    protocol: str,
    decoded: bool,
) -> None:
    client = make_client(server, protocol=protocol, decode_responses=str(decoded))
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")
        confirm(subscriber)
        publish("news", "now")
        expected: dict[str, Any] = {"type": "message", "pattern": None}
        channel, data = ("news", "now") if decoded else (b"news", b"now")
        assert next_message(subscriber) == expected | {"channel": channel, "data": data}


def test_a_message_without_handler_makes_no_span(
    server: Server,
    make_client: MakeClient,
    publish: Callable[[str, str], int],
    spans: RecordedSpans,
) -> None:
    with make_client(server).pubsub() as subscriber:
        subscriber.subscribe("news")
        confirm(subscriber)
        publish("news", "now")
        assert next_message(subscriber) is not None
    assert spans.names == ["foo.SUBSCRIBE"]


def test_a_messages_connection_isnt_cut_off_by_the_socket_timeout(
    server: Server, make_client: MakeClient, publish: Callable[[str, str], int]
) -> None:
    client = make_client(server, socket_timeout="200 milliseconds")
    with client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("news")
        timer = threading.Timer(0.6, publish, ["news", "now"])
        timer.start()
        # None is a reply to the subscription, which listen() doesn't hide.
        message = next(message for message in subscriber.listen() if message is not None)
        timer.join()
    assert message["data"] == b"now"


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_message_may_take_longer_than_the_socket_timeout(
    valkey: Server, make_client: MakeClient, timeout: float | None
) -> None:
    client = make_client(valkey, socket_timeout="200 milliseconds")
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")
        confirm(subscriber)
        timer = threading.Timer(0.6, client.publish, ["news", "now"])
        timer.start()
        message = subscriber.get_message(timeout=timeout)
        timer.join()
    assert message is not None
    assert message["data"] == b"now"


# Handlers


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "decoded"])
def test_a_handler_runs_inside_a_span(
    server: Server,
    make_client: MakeClient,
    publish: Callable[[str, str], int],
    spans: RecordedSpans,
    protocol: str,
    decoded: bool,
) -> None:
    client = make_client(server, protocol=protocol, decode_responses=str(decoded))
    handled: list[Any] = []

    def handle(message: dict[str, Any]) -> None:
        client.set("handled", message["data"])
        handled.append(message)

    with tracer.start_as_current_span("worker"), client.pubsub() as subscriber:
        subscriber.subscribe(news=handle)
        confirm(subscriber)
        publish("news", "now")
        handle_until(subscriber, lambda: handled)
    assert spans.tree() == [
        ("worker", None),
        ("foo.SUBSCRIBE", "worker"),
        ("foo.process", "worker"),
        ("foo.SET", "foo.process"),
    ]


def test_a_handlers_span_is_that_of_a_consumer(
    server: Server,
    make_client: MakeClient,
    publish: Callable[[str, str], int],
    spans: RecordedSpans,
) -> None:
    handled: list[Any] = []
    with make_client(server).pubsub() as subscriber:
        subscriber.subscribe(news=handled.append)
        confirm(subscriber)
        publish("news", "now")
        handle_until(subscriber, lambda: handled)
    span = spans.one("foo.process")
    assert span.kind == SpanKind.CONSUMER
    assert attributes(span) == {
        "messaging.system": "redis",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "news",
    }


@pytest.mark.parametrize("kind", ["psubscribe", "ssubscribe"])
def test_handlers_of_patterns_and_shards_run_inside_a_span(
    server: Server, make_client: MakeClient, spans: RecordedSpans, kind: str
) -> None:
    client = make_client(server)
    handled: list[Any] = []
    with redis.Redis(port=server.port) as other, client.pubsub() as subscriber:
        name = "new*" if kind == "psubscribe" else "news"
        getattr(subscriber, kind)(**{name: handled.append})
        confirm(subscriber)
        other.execute_command("PUBLISH" if kind == "psubscribe" else "SPUBLISH", "news", "now")
        handle_until(subscriber, lambda: handled)
    assert handled[0]["channel"] == b"news"
    assert attributes(spans.one("foo.process"))["messaging.destination.name"] == name


def test_a_handlers_error_marks_its_span_and_goes_on(
    server: Server,
    make_client: MakeClient,
    publish: Callable[[str, str], int],
    spans: RecordedSpans,
) -> None:
    error = ZeroDivisionError("a secret")

    def handle(message: dict[str, Any]) -> None:
        raise error

    with make_client(server).pubsub() as subscriber:
        subscriber.subscribe(news=handle)
        confirm(subscriber)
        publish("news", "now")
        with pytest.raises(ZeroDivisionError) as raised:
            next_message(subscriber)
    span = spans.one("foo.process")
    assert raised.value is error
    assert span.status.status_code is StatusCode.ERROR
    assert (span.status.description, list(span.events)) == (None, [])
    assert attributes(span)["error.type"] == "ZeroDivisionError"


def test_after_a_handlers_error_the_next_message_is_handled(
    server: Server,
    make_client: MakeClient,
    publish: Callable[[str, str], int],
    spans: RecordedSpans,
) -> None:
    handled: list[Any] = []

    def handle(message: dict[str, Any]) -> None:
        handled.append(message["data"])
        if len(handled) == 1:
            raise ZeroDivisionError

    with make_client(server).pubsub() as subscriber:
        subscriber.subscribe(news=handle)
        confirm(subscriber)
        publish("news", "first")
        publish("news", "second")
        with pytest.raises(ZeroDivisionError):
            next_message(subscriber)
        handle_until(subscriber, lambda: len(handled) == 2)
    statuses = [span.status.status_code for span in spans.named("foo.process")]
    assert handled == [b"first", b"second"]
    assert statuses == [StatusCode.ERROR, StatusCode.UNSET]


def test_after_a_handler_its_span_isnt_current_any_more(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey)
    handled: list[Any] = []
    with client.pubsub() as subscriber:
        subscriber.subscribe(news=handled.append)
        confirm(subscriber)
        client.publish("news", "now")
        handle_until(subscriber, lambda: handled)
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("mode", ["pipelines", "off"])
def test_a_handler_runs_without_a_span_where_commands_have_none(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, mode: str
) -> None:
    client = make_client(valkey, trace=mode)
    handled: list[Any] = []
    with client.pubsub() as subscriber:
        subscriber.subscribe(news=handled.append)
        confirm(subscriber)
        client.publish("news", "now")
        handle_until(subscriber, lambda: handled)
    assert spans.names == []


# In a thread


def test_a_subscriber_in_a_thread_belongs_to_its_request(
    server: Server,
    make_client: MakeClient,
    publish: Callable[[str, str], int],
    spans: RecordedSpans,
) -> None:
    request = tracer.start_span("request")
    client = make_client(server, request, socket_timeout="100 milliseconds")
    subscriber = client.pubsub()
    subscriber.subscribe(news=lambda message: client.set("handled", message["data"]))
    thread = subscriber.run_in_thread(sleep_time=0.3)
    try:
        wait_until(lambda: publish("news", "now"))
        wait_until(lambda: spans.named("foo.process"))
    finally:
        thread.stop()
        thread.join(5)
    request.end()
    assert {("foo.process", "request"), ("foo.SET", "foo.process")} < set(spans.tree())


def test_a_threads_exception_handler_goes_on(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    subscriber = client.pubsub()
    caught: list[BaseException] = []
    subscriber.subscribe(news=lambda message: 1 / 0)
    thread = subscriber.run_in_thread(
        sleep_time=0.05, exception_handler=lambda error, *others: caught.append(error)
    )
    try:
        wait_until(lambda: client.publish("news", "first"))
        wait_until(lambda: len(caught) == 1)
        client.publish("news", "second")
        wait_until(lambda: len(caught) == 2)
    finally:
        thread.stop()
        thread.join(5)
    assert [type(error) for error in caught] == [ZeroDivisionError] * 2


# The server goes away


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own, to be killed."""
    with running_server("valkey", tmp_path) as server:
        yield server


def test_a_subscriber_subscribes_again_when_the_server_is_back(
    mortal: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(mortal, socket_connect_timeout="1 second")
    handled: list[Any] = []
    with client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe(news=handled.append)
        subscriber.psubscribe("other*")
        subscriber.get_message(timeout=0.1)
        mortal.kill()
        with pytest.raises(redis.ConnectionError):
            handle_until(subscriber, lambda: False)
        mortal.restart()
        spans.clear()
        # The reconnection happens while a message is waited for.
        wait_until(lambda: subscriber.get_message() is None and client.pubsub_numpat() == 1)
        wait_until(lambda: client.publish("news", "now"))
        handle_until(subscriber, lambda: handled)
        client.publish("otherwise", "then")
        assert next_message(subscriber)["data"] == b"then"
    assert len(spans.named("foo.SUBSCRIBE")) == len(spans.named("foo.PSUBSCRIBE")) == 1


def test_a_lost_server_is_connected_to_once_a_call(
    valkey: Server, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pubsub = make_client(valkey).pubsub()
    pubsub.subscribe("channel")
    connection = pubsub.connection
    connection.disconnect()
    connects = []

    def unreachable() -> None:
        connects.append(1)
        raise TimeoutError

    monkeypatch.setattr(connection, "_connect", unreachable)
    with pytest.raises(redis.TimeoutError):
        pubsub.get_message()
    assert len(connects) == 1
    monkeypatch.undo()
    assert pubsub.get_message(timeout=5)["type"] == "subscribe"
    pubsub.close()


def test_a_subscriber_that_isnt_subscribed_yet_waits_until_it_is(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey)
    with client.pubsub(ignore_subscribe_messages=False) as subscriber:
        timer = threading.Timer(0.1, subscriber.subscribe, ("news",))
        timer.start()
        message = subscriber.get_message(timeout=5)
        timer.join()
        assert message is not None
        assert message["type"] == "subscribe"


def test_a_subscriber_that_is_never_subscribed_waits_for_its_timeout_only(
    valkey: Server, make_client: MakeClient
) -> None:
    with make_client(valkey).pubsub() as subscriber:
        started = time.monotonic()
        assert subscriber.get_message(timeout=0.1) is None
        assert 0.09 < time.monotonic() - started < 1


def test_a_subscriber_can_be_closed_whatever_was_interrupted(
    valkey: Server, make_client: MakeClient
) -> None:
    # threading.Event's lock stays locked when a signal comes at the wrong moment.
    subscriber = make_client(valkey).pubsub()
    assert not isinstance(subscriber.subscribed_event, threading.Event)
    subscriber.close()


def test_waiting_for_the_first_subscription_does_not_call_time_sleep(
    valkey: Server, make_client: MakeClient
) -> None:
    # As in redis-py: an application's test that replaces time.sleep counts its own calls.
    callers: list[int] = []

    def sleep(seconds: float) -> None:
        callers.append(threading.get_ident())

    with make_client(valkey).pubsub() as subscriber, mock.patch("time.sleep", sleep):
        assert subscriber.get_message(timeout=0.05) is None
    assert threading.get_ident() not in callers
