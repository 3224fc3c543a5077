"""The attributes of commands and pipelines, without a server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import Span

from pyramid_baseplate_redis.telemetry import command_spans, otel
from pyramid_baseplate_redis.telemetry.call_details import (
    Peers,
    note_server,
    pop_call_details,
)
from pyramid_baseplate_redis.telemetry.command_spans import CommandTracer

from ..support.servers import RecordedSpans, attributes


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
def tracer(peers: Peers) -> CommandTracer:
    return CommandTracer("foo", pool_name="foo", connection_kwargs={"db": 3}, peers=peers)


Shown = Callable[[Span | None], Any]
Started = Callable[..., Any]


@pytest.fixture
def shown(spans: RecordedSpans) -> Shown:
    """The attributes of a span, which is ended."""

    def end(span: Span | None) -> Any:
        assert span is not None
        span.end()
        return attributes(spans.exporter.get_finished_spans()[-1])

    return end


@pytest.fixture
def started(tracer: CommandTracer, shown: Shown) -> Started:
    """The attributes of a command's span."""

    def start(*args: str, server: tuple[str, int] | None = None) -> Any:
        pop_call_details()
        if server is not None:
            note_server(*server)
        return shown(tracer.started_command(Context(), args, None, pop_call_details()))

    return start


def test_a_span_without_details_does_not_have_the_server_of_an_earlier_one(
    started: Started,
) -> None:
    assert started("GET", "a", server=("node", 7))["server.address"] == "node"
    assert "server.address" not in started("GET", "a")
    assert started("GET", "a", server=("other", 7))["server.address"] == "other"
    assert "server.address" not in started("GET", "a")


def test_a_span_has_the_peer_that_the_pool_has_now(started: Started, peers: Peers) -> None:
    assert "network.peer.address" not in started("GET", "a")
    peers.add(("10.0.0.1", 1))
    assert started("GET", "a")["network.peer.address"] == "10.0.0.1"
    assert started("GET", "a")["network.peer.address"] == "10.0.0.1"
    peers.add(("10.0.0.2", 1))
    assert "network.peer.address" not in started("GET", "a")


def test_a_key_that_is_named_like_a_command_changes_no_span(started: Started) -> None:
    for name, key in (("GET", "SET"), ("SET", "GET"), ("GET", "SET"), ("SET", "GET")):
        assert started(name, key)["db.operation.name"] == name


def test_a_command_may_have_no_arguments(started: Started) -> None:
    assert [started("PING")["db.operation.name"] for _ in range(2)] == ["PING", "PING"]


def test_a_name_that_cannot_be_cached_is_described(tracer: CommandTracer) -> None:
    assert tracer.command_attributes(["GET"])["db.operation.name"] == "['GET']"


def test_a_procedure_is_named_each_time(started: Started) -> None:
    for name in ("first", "second"):
        assert started("FCALL", name, "0")["db.stored_procedure.name"] == name


@pytest.mark.parametrize(
    ("is_transaction", "names", "operation"),
    [
        (False, ["GET"], "GET"),
        (True, ["GET"], "GET"),
        (False, ["GET", "GET"], "PIPELINE GET"),
        (True, ["SET", "SET"], "MULTI SET"),
        (False, ["GET", "SET"], "PIPELINE"),
        (True, ["GET", "SET"], "MULTI"),
        (False, [], "PIPELINE"),
    ],
)
def test_a_pipeline_is_named_after_its_commands(
    tracer: CommandTracer, is_transaction: bool, names: list[str], operation: str
) -> None:
    commands = [((name, "key"), {}) for name in names]

    for _ in range(2):  # the second one is remembered
        found = tracer.batch_attributes(is_transaction, commands)
        assert (found["db.operation.name"], found["db.namespace"]) == (operation, "3")


@pytest.mark.parametrize("size", [1, 2])
def test_a_pipeline_of_several_commands_has_their_number(
    tracer: CommandTracer, shown: Shown, size: int
) -> None:
    commands = [(("GET", "key"), {})] * size
    own = tracer.batch_attributes(False, commands)

    span = shown(tracer.started_batch(Context(), "foo.pipeline", own, commands))

    assert span.get("db.operation.batch.size") == (None if size == 1 else size)


def test_a_pipeline_of_one_procedure_names_it(tracer: CommandTracer, shown: Shown) -> None:
    commands = [(("FCALL", "mine", "0"), {})]
    own = tracer.batch_attributes(False, commands)

    span = shown(tracer.started_batch(Context(), "foo.pipeline", own, commands))

    assert span["db.stored_procedure.name"] == "mine"


def test_names_that_callers_make_up_do_not_fill_the_memory(
    tracer: CommandTracer, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_spans, "_MOST_CACHED", 3)
    for number in range(10):
        started(f"X{number}", server=("node", number))
        tracer.batch_attributes(False, [((f"X{number}",), {}), (("GET",), {})])

    for cache in (tracer._commands, tracer._served, tracer._batches):
        assert len(cache) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda tracer: tracer.batch_attributes(False, [(([],), {}), (([],), {})]),
            "describing a pipeline failed",
        ),
        (lambda tracer: tracer.started_command(Context(), (), None), "starting a span failed"),
        (
            lambda tracer: tracer.started_batch(Context(), "foo", {}, [((), {})]),
            "starting a span failed",
        ),
    ],
)
def test_what_cannot_be_described_is_logged_once(
    tracer: CommandTracer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[CommandTracer], Any],
    message: str,
) -> None:
    monkeypatch.setattr(otel, "_logged", set())
    with caplog.at_level(logging.ERROR):
        call(tracer)
        call(tracer)

    assert [record.message for record in caplog.records] == [f"{message}; this is logged only once"]
