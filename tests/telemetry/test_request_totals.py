"""``foo.trace_min_duration``: what is counted on the server span of a request, and how."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from pyramid_baseplate_redis import MonitoredRedisConnection, RedisClient
from pyramid_baseplate_redis.telemetry import request_totals
from pyramid_baseplate_redis.telemetry.request_totals import RequestTotals

from ..support.servers import MakeClient, RecordedSpans, Server
from ..support.topologies import Cluster
from ..support.totals import FAST, in_thread, operations_of, served, totals_of

tracer = trace.get_tracer("tests")


@pytest.fixture
def client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    """All its commands are fast."""
    return make_client(valkey, trace_min_duration=FAST)


# What is counted


def test_a_fast_command_has_no_span_and_is_counted_on_the_server_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        assert foo.set("key", "value") is True
        assert foo.get("key") == b"value"
    assert spans.names == ["GET"]
    found = totals_of(spans.one("GET"))
    assert 0 < found.pop("duration") < 60
    assert found == {"operations": 2, "commands": 2}


def test_a_fast_pipeline_is_one_operation_of_its_commands(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        assert foo.pipeline("pair").set("a", 1).get("a").execute() == [True, b"1"]
    assert spans.names == ["GET"]
    found = totals_of(spans.one("GET"))
    assert (found["operations"], found["commands"]) == (1, 2)


def test_it_is_off_by_default(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with served(make_client(valkey)) as (foo,):
        foo.ping()
    assert spans.names == ["GET", "foo.PING"]
    assert totals_of(spans.one("GET")) == {}


def test_each_client_has_totals_of_its_own(
    valkey: Server, client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    settings = {"bar.url": valkey.url, "bar.trace_min_duration": FAST}
    factory = RedisClient().parse("bar", settings)
    with served(client, factory.make_object_for_context("bar", None)) as (foo, bar):
        foo.ping()
        bar.ping()
        bar.ping()
    factory.connection_pool.disconnect()
    request = spans.one("GET")
    assert (operations_of(request, "foo"), operations_of(request, "bar")) == (1, 2)


def test_a_command_under_a_local_span_is_counted_on_the_server_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,), tracer.start_as_current_span("local"):
        foo.ping()
    assert spans.tree() == [("GET", None), ("local", "GET")]
    assert operations_of(spans.one("GET")) == 1
    assert totals_of(spans.one("local")) == {}


def test_a_client_of_no_request_is_counted_where_it_is_used(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(), tracer.start_as_current_span("local"):
        client.ping()
    assert operations_of(spans.one("GET")) == 1


def test_a_command_in_a_thread_without_context_is_counted_on_the_server_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        in_thread(foo.ping)
    assert spans.names == ["GET"]
    assert operations_of(spans.one("GET")) == 1


def test_the_commands_of_all_threads_are_counted(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with served(client) as (foo,):
        threads = [
            threading.Thread(target=lambda: [foo.ping() for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # A command that waited for a connection has a span and is counted, too.
    assert operations_of(spans.one("GET")) == 200


def test_the_nodes_of_a_cluster_are_counted_together(
    cluster: Cluster, spans: RecordedSpans
) -> None:
    settings = {"foo.url": cluster.url, "foo.trace_min_duration": FAST}
    factory = RedisClient().parse("foo", settings)
    prototype = factory.make_object_for_context("foo", None)
    prototype.get("key")  # finds the nodes
    spans.clear()
    with served(prototype) as (foo,):
        for number in range(10):
            foo.set(f"key:{number}", number)
        foo.pipeline("pair").get("a").get("b").execute()
    factory.connection_pool.disconnect()
    assert spans.names == ["GET"]
    found = totals_of(spans.one("GET"))
    assert (found["operations"], found["commands"]) == (11, 12)


def test_what_has_a_span_is_counted_as_well(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey, trace_min_duration="50 ms")
    client.ping()
    with served(client) as (foo,):
        foo.ping()
        foo.blpop("nothing", timeout=0.1)
    found = totals_of(spans.one("GET"))
    assert found["operations"] == 2
    assert 0.09 < found["duration"] < 5


# The object itself


@pytest.fixture
def request_span() -> Iterator[Span]:
    request_totals.enable()
    span = tracer.start_span("request", Context())
    yield span
    span.end()


def test_a_signal_handler_s_command_has_a_span_if_it_interrupts_the_counting(
    request_span: Span, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = RequestTotals(request_span)
    counted = []

    class Interrupting(dict[str, Any]):
        def get(self, *args: Any) -> Any:  # in the middle of add()
            if not counted:
                counted.append(None)
                os.kill(os.getpid(), signal.SIGUSR1)
            return super().get(*args)

    def handle(*args: object) -> None:
        counted.append(totals.add("foo", 1, 0.1, 0.0))

    before = signal.signal(signal.SIGUSR1, handle)
    monkeypatch.setattr(totals, "_clients", Interrupting())
    try:
        assert totals.add("foo", 1, 0.1, 0.0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert counted == [None, False]
    totals.write(closing=True)
    assert operations_of(request_span) == 1


def test_a_thread_waits_until_another_one_has_counted(
    request_span: Span, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = RequestTotals(request_span)
    begun = threading.Event()

    class Slow(dict[str, Any]):
        def get(self, *args: Any) -> Any:  # in the middle of add()
            begun.set()
            time.sleep(0.1)
            return super().get(*args)

    monkeypatch.setattr(totals, "_clients", Slow())
    thread = threading.Thread(target=totals.add, args=("foo", 1, 0.1, 0.0))
    thread.start()
    assert begun.wait(10)
    assert totals.add("foo", 1, 0.1, 0.0)
    thread.join()
    totals.write(closing=True)
    assert operations_of(request_span) == 2


def test_a_forked_process_does_not_count_for_its_parent(request_span: Span) -> None:
    totals = RequestTotals(request_span)
    assert totals.add("foo", 1, 0.1, 0.0)
    child = os.fork()
    if child == 0:
        os._exit(1 if totals.add("foo", 1, 0.1, 0.0) else 0)
    assert os.waitpid(child, 0)[1] == 0
    totals.write(closing=True)
    assert operations_of(request_span) == 1


def test_totals_that_are_written_twice_are_those_of_the_second_time(request_span: Span) -> None:
    context = request_totals.opened(request_span, Context())
    totals = request_totals.found(context, INVALID_SPAN)
    assert totals is not None
    totals.add("foo", 1, 0.1, 0.0)
    request_totals.write(request_span)
    assert operations_of(request_span) == 1
    totals.add("foo", 1, 0.1, 0.0)
    request_totals.close(request_span)
    assert operations_of(request_span) == 2
    assert not totals.add("foo", 1, 0.1, 0.0)
    assert request_totals.found(context, request_span) is None


def test_nothing_keeps_a_span_that_is_never_ended() -> None:
    request_totals.enable()
    span = tracer.start_span("forgotten", Context())
    context: Context | None = request_totals.opened(span, Context())
    assert request_totals.found(Context(), span) is not None
    gone = weakref.ref(span)
    del span, context
    gc.collect()
    assert gone() is None


class _Unhashable:
    """A span of another SDK, which cannot be a key."""

    __hash__ = None  # type: ignore[assignment]

    def is_recording(self) -> bool:
        return True


def test_a_span_that_cannot_take_totals_is_no_error(
    client: MonitoredRedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    span: Any = _Unhashable()
    context = Context()
    assert request_totals.opened(span, context) is context
    with served():  # so that there are any totals at all
        assert request_totals.found(context, span) is None
        request_totals.close(span)


def test_counting_that_fails_changes_no_result(
    client: MonitoredRedisConnection, spans: RecordedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("broken")

    with served(client) as (foo,):
        monkeypatch.setattr(RequestTotals, "add", fail)
        assert foo.set("key", "value") is True
    assert spans.tree() == [("GET", None), ("foo.SET", "GET")]
